"""Long work is announced with what it takes at least."""

import pytest
import torch

from hw2.devices import estimate
from hw2.devices.estimate import announce, duration, operations


def test_operations_are_counted_by_hand():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(5 * 64, 7))
    counted = operations(network, torch.zeros(2, 3, 8, 8))
    assert counted == 2 * (2 * 64 * 5 * 3 * 9) + 2 * (2 * 5 * 64 * 7)


def test_the_networks_own_weights_are_not_touched():
    network = torch.nn.Linear(4, 4)
    operations(network, torch.zeros(1, 4))
    assert network.weight.device.type == "cpu"
    assert network(torch.zeros(1, 4)).device.type == "cpu"


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (59e12, ""),
        (60e12, "hw2: 100 pictures will take at least 60 seconds: 60.0 TFLOP, and this CPU reaches 1 TFLOP/s"),
        (4280e12, "hw2: 100 pictures will take at least 71 minutes: 4,280.0 TFLOP, and this CPU reaches 1 TFLOP/s"),
    ],
)
def test_work_is_announced_if_it_is_long(monkeypatch, capsys, count, said):
    monkeypatch.setattr(estimate, "rate", lambda device, dtype: 1e12)
    announce("100 pictures", count, "cpu", torch.float32)
    assert capsys.readouterr().err == (f"{said} in float32\n" if said else "")


@pytest.mark.parametrize(("seconds", "words"), [(61, "61 seconds"), (300, "5 minutes"), (9000, "2.5 hours")])
def test_a_time_is_told_in_words(seconds, words):
    assert duration(seconds) == words


def test_the_rate_is_that_of_this_machine():
    assert 1e8 < estimate.rate("cpu", torch.float32) < 1e14
