"""What both programs do with memory.

On a CPU they keep what tensors free: to ask for it again takes up to a quarter of the time. They seldom look for
garbage while libraries are imported.
"""

import pytest

from tests.commands import run_command

FAULTS = """
import resource, torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10): torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = min(faults(), faults())
{start}
faults()
print(before, faults())
"""


@pytest.mark.parametrize(
    "start",
    [
        "from hw2.devices.choose import start_processes; start_processes('cpu')",
        "from grading.judges.pretrained import ready; ready(torch.nn.Linear(1, 1), 'cpu')",
    ],
    ids=["hw2", "grading"],
)
def test_the_memory_of_freed_tensors_is_not_asked_for_again(start):
    run = run_command("tests.hw2.typed", FAULTS.format(start=start))
    before, after = map(int, run.stdout.split())
    assert after < before / 4, (before, after)


LOOKS = """
import gc
from {package}.surroundings import run
looks = []
gc.callbacks.append(lambda phase, info: looks.append(phase))
run(lambda: [[] for _ in range(10**6)], print, str)
print(looks.count("start"), flush=True)
"""


@pytest.mark.parametrize("package", ["hw2", "grading.cli"])
def test_a_million_objects_that_stay_are_not_looked_at_a_thousand_times(package):
    run = run_command("tests.hw2.typed", LOOKS.format(package=package))
    assert 0 < int(run.stdout) < 100
