"""The classifiers of digits: their networks, their input, the files that they are loaded from."""

import os
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from grading.core.errors import GradingError
from grading.judges.classifiers import (
    EmbeddedSvhnClassifier,
    MnistmClassifier,
    SvhnClassifier,
    images_to_pm1,
    load_digit_judge,
)


@pytest.mark.parametrize("size", [28, 32, 64, 20])
def test_judges_see_what_the_official_transform_makes(size):
    g = np.random.default_rng(0)
    images = [g.integers(0, 256, (size, size + 3 * (size != 28), 3), dtype=np.uint8) for _ in range(3)]
    official = transforms.Compose(
        [transforms.Resize((28, 28)), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    )
    expected = torch.stack([official(Image.fromarray(image)) for image in images])
    torch.testing.assert_close(images_to_pm1(images), expected, rtol=0, atol=1e-6)


def test_the_svhn_network_is_a_resnet34_for_small_images():
    network = SvhnClassifier()
    assert sum(p.numel() for p in network.parameters()) == 21_282_122
    assert list(network.state_dict()["conv1.weight"].shape) == [64, 3, 3, 3]
    assert isinstance(network.maxpool, nn.Identity)
    features = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool, network.layer1)
    assert features(torch.zeros(1, 3, 28, 28)).shape == (1, 64, 28, 28)


def test_the_mnistm_network_and_its_features_equal_a_literal_sequence_of_layers():
    torch.manual_seed(0)
    network = MnistmClassifier()
    before_the_last = nn.Sequential(
        network.conv1, nn.ReLU(), nn.MaxPool2d(2), network.conv2, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        network.fc1, nn.ReLU(), network.fc2, nn.ReLU(),
    )  # fmt: skip
    images = torch.rand(4, 3, 28, 28) * 2 - 1
    torch.testing.assert_close(network.features(images), before_the_last(images))
    torch.testing.assert_close(network(images), network.fc3(before_the_last(images)))


def test_the_svhn_features_lead_to_what_torchvisions_own_forward_gives():
    torch.manual_seed(0)
    network = SvhnClassifier().eval()
    images = torch.rand(3, 3, 28, 28) * 2 - 1
    with torch.no_grad():
        expected = super(SvhnClassifier, network).forward(images)
        torch.testing.assert_close(network.fc(network.features(images)), expected)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_judge_predicts_the_same_one_by_one_and_by_hundreds(tmp_path, wrapped):
    torch.manual_seed(0)
    weights = MnistmClassifier().state_dict()
    torch.save({"state_dict": weights, "optimizer": {}} if wrapped else weights, tmp_path / "c.pth")
    judge = load_digit_judge("mnistm", tmp_path / "c.pth")
    assert judge.identity.kind == "custom"
    images = list(np.random.default_rng(0).integers(0, 256, (300, 28, 28, 3), dtype=np.uint8))
    together = judge.predict(images)
    assert len(set(together.digits.tolist())) > 1
    alone = [judge.predict([image]) for image in images]
    np.testing.assert_array_equal(together.digits, np.concatenate([each.digits for each in alone]))
    np.testing.assert_allclose(together.features, np.concatenate([each.features for each in alone]), atol=1e-5)
    assert judge.predict([]).digits.shape == (0,)
    assert judge.predict([]).features.shape == (0, 64)


def test_weights_without_batch_counters_are_as_good(tmp_path):
    weights = EmbeddedSvhnClassifier().state_dict()
    needed = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    assert len(needed) < len(weights)
    torch.save(needed, tmp_path / "c.bin")
    load_digit_judge("svhn", tmp_path / "c.bin", "embedded")


class MakesFolder:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_judge_that_is_none_is_refused_and_never_run(tmp_path):
    path = tmp_path / "c.pth"
    with pytest.raises(GradingError, match=r"c\.pth cannot be read \(No such file"):
        load_digit_judge("mnistm", path)
    for content, sentence in (
        (pickle.dumps(MakesFolder(tmp_path / "trap")), "could run code"),
        (b"", "not a readable PyTorch file"),
    ):
        path.write_bytes(content)
        with pytest.raises(GradingError, match=sentence):
            load_digit_judge("mnistm", path)
    assert not (tmp_path / "trap").exists()
    for thing, sentence in (([1], "holds a list"), (EmbeddedSvhnClassifier().state_dict(), "does not fit the mnistm")):
        torch.save(thing, path)
        with pytest.raises(GradingError, match=sentence):
            load_digit_judge("mnistm", path)


def test_a_small_judge_that_unpacks_to_a_large_one_is_refused_before_it_is_unpacked(tmp_path):
    torch.save(MnistmClassifier().state_dict(), tmp_path / "c.pth")
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(tmp_path / "c.pth") as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, b"\0" * 2**22 if name.endswith("byteorder") else old.read(name))
    with pytest.raises(GradingError, match=r"bomb\.pth is compressed.*save it again with torch\.save"):
        load_digit_judge("mnistm", bomb)


def test_an_archive_that_only_pytorch_can_list_is_not_read_unchecked(tmp_path):
    torch.save(MnistmClassifier().state_dict(), tmp_path / "c.pth")
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(tmp_path / "c.pth") as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    # Python's zipfile refuses to list an archive of such a version; PyTorch reads it.
    bomb.write_bytes(re.sub(rb"(PK\x01\x02..)..", rb"\1" + b"\xff\0", bomb.read_bytes(), flags=re.DOTALL))
    assert torch.load(bomb)
    with pytest.raises(GradingError, match=r"bomb\.pth is not a readable PyTorch file"):
        load_digit_judge("mnistm", bomb)
