import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hw2.errors import InputError
from hw2.faces.checkpoint import load_face_unet, save_face_unet
from hw2.faces.network import FaceUNet, FaceUNetConfig
from tests.models.tiny_faces import TINY


def test_saved_weights_come_back(tmp_path, tiny_network, tiny_checkpoint):
    loaded = load_face_unet(tiny_checkpoint)
    assert loaded.config == TINY
    assert not loaded.training
    for name, value in tiny_network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
        assert not value.requires_grad
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_half_precision_files_are_computed_in_the_asked_dtype(tmp_path, tiny_network):
    save_face_unet(tiny_network.half(), tmp_path / "half.safetensors")
    assert load_face_unet(tmp_path / "half.safetensors").down1.weight.dtype == torch.float32
    assert load_face_unet(tmp_path / "half.safetensors", dtype=torch.bfloat16).down1.weight.dtype == torch.bfloat16


def test_a_bare_state_dict_loads_into_the_default_network(tmp_path, tiny_network, monkeypatch):
    monkeypatch.setattr("hw2.faces.checkpoint.FaceUNetConfig", lambda: TINY)
    torch.save(tiny_network.state_dict(), tmp_path / "UNet.pt")
    loaded = load_face_unet(tmp_path / "UNet.pt")
    assert loaded.config == TINY
    for name, value in tiny_network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


@pytest.mark.long
def test_a_bare_official_state_dict_loads(tmp_path):
    network = FaceUNet()
    torch.save(network.state_dict(), tmp_path / "UNet.pt")
    loaded = load_face_unet(tmp_path / "UNet.pt")
    assert loaded.config == FaceUNetConfig()
    assert torch.equal(loaded.up23.resblocks.conv1.weight, network.up23.resblocks.conv1.weight)


def rewrite(path, change, config=TINY):
    """Save the weights of `path` again, changed."""
    weights = load_file(path)
    change(weights)
    metadata = {"config": json.dumps(vars(config))} if config else {}
    save_file(weights, path, metadata=metadata)


def test_missing_extra_and_misshapen_keys_are_all_named(tiny_checkpoint):
    def change(weights):
        del weights["mid1.resblocks.norm1.bias"]
        weights["module.extra"] = torch.zeros(1)
        weights["down1.weight"] = torch.zeros(8, 1, 3, 3)

    rewrite(tiny_checkpoint, change)
    with pytest.raises(InputError) as error:
        load_face_unet(tiny_checkpoint)
    sentence = str(error.value)
    assert str(tiny_checkpoint) in sentence
    assert "1 of 129 keys is missing: mid1.resblocks.norm1.bias" in sentence
    assert "1 key is not the network's: module.extra" in sentence
    assert "down1.weight is [8, 1, 3, 3] instead of [8, 3, 3, 3]" in sentence


def test_a_long_list_of_keys_is_cut(tiny_checkpoint):
    rewrite(tiny_checkpoint, lambda weights: [weights.pop(k) for k in list(weights) if k.startswith("up")])
    with pytest.raises(InputError, match=r"keys are missing: up1\.[^;]*, up1\.[^;]*, up1\.[^;]* and \d+ more"):
        load_face_unet(tiny_checkpoint)


@pytest.mark.parametrize(
    "bad",
    [
        torch.full((8,), torch.nan),
        torch.full((8,), torch.inf),
        torch.zeros(8).int(),
        torch.full((8,), torch.nan).to(torch.float8_e5m2),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused(tiny_checkpoint, bad):
    rewrite(tiny_checkpoint, lambda weights: weights.update({"down1.bias": bad}))
    with pytest.raises(InputError, match=r"without finite floating numbers: down1\.bias"):
        load_face_unet(tiny_checkpoint)


def test_weights_of_another_size_are_told_from_the_official_ones(tmp_path, tiny_network):
    torch.save(tiny_network.state_dict(), tmp_path / "UNet.pt")
    with pytest.raises(InputError, match="does not fit the face network"):
        load_face_unet(tmp_path / "UNet.pt")


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{broken}"])
def test_a_broken_safetensors_file_is_refused(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.safetensors is (not a readable safetensors file|empty)"):
        load_face_unet(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([1, 2], "holds a list"),
        ({"state_dict": {"a": 1}, "epoch": 3}, "holds a dict with the entries state_dict, epoch"),
        (torch.zeros(3), "holds a Tensor"),
    ],
)
def test_other_things_that_people_save_are_described(tmp_path, content, found):
    torch.save(content, tmp_path / "UNet.pt")
    with pytest.raises(InputError, match=f"{found}; expected a bare state dict"):
        load_face_unet(tmp_path / "UNet.pt")


@pytest.mark.parametrize(
    "config", ["[", "[]", '{"channel": -1}', '{"nonsense": 1}', '{"channel": "x"}', "[" * 100000, '{"channel": 1e400}']
)
def test_hostile_metadata_is_refused(tmp_path, config):
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"config": config})
    with pytest.raises(InputError, match=r"describes no face network|config in its metadata"):
        load_face_unet(tmp_path / "x.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"UNet\.pt is not a file; expected the face network's weights"):
        load_face_unet(tmp_path / "UNet.pt")


def test_the_content_tells_safetensors_not_the_name(tmp_path, tiny_network):
    """The homework's scripts are given UNet.pt, whatever it is."""
    save_face_unet(tiny_network, tmp_path / "tiny.safetensors")
    (tmp_path / "tiny.safetensors").rename(tmp_path / "UNet.pt")
    assert load_face_unet(tmp_path / "UNet.pt").config == tiny_network.config
