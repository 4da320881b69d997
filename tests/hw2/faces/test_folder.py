"""Face networks in diffusers' folders: diffusers loads what is written here, and the reverse."""

import dataclasses
import json

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

from hw2.errors import InputError
from hw2.faces.folder import load_face_folder, save_face_folder
from hw2.faces.network import FaceUNet, FaceUNetConfig
from tests.models.tiny_faces import TINY, random_face_weights

SIZES = [
    TINY,
    FaceUNetConfig(channel=8, channel_multipliers=(1, 1, 3), num_res_blocks=2, attention_levels=(1,), num_groups=2),
    FaceUNetConfig(channel=4, channel_multipliers=(1, 2), num_res_blocks=3, attention_levels=(), num_groups=4),
    FaceUNetConfig(channel=8, channel_multipliers=(1,), num_res_blocks=1, attention_levels=(0,), num_groups=4),
]


def random_network(config):
    network = FaceUNet(config)
    network.load_state_dict(random_face_weights(network, seed=4))
    return network.eval().requires_grad_(False)


def batch():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 981])


@pytest.mark.parametrize("config", SIZES)
def test_diffusers_computes_the_same_with_the_folder_and_it_comes_back(tmp_path, config):
    network = random_network(config)
    save_face_folder(network, tmp_path / "unet", sample_size=8)
    theirs, info = UNet2DModel.from_pretrained(tmp_path / "unet", output_loading_info=True, local_files_only=True)
    assert not any(info.values()), "no key is missing or left over"
    assert theirs.config.sample_size == 8
    torch.testing.assert_close(theirs(*batch()).sample, network(*batch()), rtol=1e-4, atol=1e-5)
    loaded = load_face_folder(tmp_path / "unet")
    assert loaded.config == config
    assert not loaded.training
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_a_network_that_diffusers_made_and_saved_is_loaded(tmp_path):
    theirs = UNet2DModel(
        block_out_channels=(8, 16, 16), layers_per_block=2, norm_num_groups=4, attention_head_dim=None,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"), flip_sin_to_cos=False,
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip
    theirs.save_pretrained(tmp_path)
    ours = load_face_folder(tmp_path, dtype=torch.float64)
    assert ours.down1.weight.dtype == torch.float64
    with torch.no_grad():
        found = ours(batch()[0].double(), batch()[1]).float()
        torch.testing.assert_close(found, theirs(*batch()).sample, rtol=1e-4, atol=1e-5)


def test_a_pipeline_of_diffusers_draws_with_the_network(tmp_path):
    save_face_folder(random_network(TINY), tmp_path, sample_size=8)
    unet = UNet2DModel.from_pretrained(tmp_path, local_files_only=True)
    pipeline = DDIMPipeline(unet, DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0].size == (8, 8)


def test_a_network_that_diffusers_cannot_build_is_not_written(tmp_path):
    network = FaceUNet(dataclasses.replace(TINY, channel_multipliers=(2, 1)))
    with pytest.raises(InputError, match="first level is 2 times as wide as its first convolution"):
        save_face_folder(network, tmp_path / "unet")
    assert not (tmp_path / "unet").exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"freq_shift": 1}, "freq_shift is 1, and this network has 0"),
        ({"norm_eps": 1e-6}, "norm_eps is 1e-06"),
        ({"attention_head_dim": 8}, "attention_head_dim is 8"),
        ({"flip_sin_to_cos": ...}, "flip_sin_to_cos is True"),
        ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "up_block_types is"),
        ({"down_block_types": ["DownBlock2D", "ResnetDownsampleBlock2D"]}, "down_block_types has 'ResnetDown"),
        ({"block_out_channels": [8, 12]}, "block_out_channels are"),
        ({"block_out_channels": [8, "x"]}, "."),
        ({"block_out_channels": ...}, "'block_out_channels' is missing"),
        ({"norm_num_groups": 3}, "divisible by num_groups"),
    ],
)
def test_another_architecture_is_refused_with_the_entry(tmp_path, change, match):
    save_face_folder(random_network(TINY), tmp_path)
    config = {**json.loads((tmp_path / "config.json").read_text()), **change}
    written = {name: value for name, value in config.items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(InputError, match=match) as error:
        load_face_folder(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'config.json'} describes another network than FaceUNet (")


def test_weights_of_another_size_are_named_by_the_checkpoints_names(tmp_path):
    save_face_folder(random_network(TINY), tmp_path)
    larger = dataclasses.replace(TINY, num_res_blocks=2)
    save_face_folder(random_network(larger), tmp_path / "other")
    (tmp_path / "config.json").write_bytes((tmp_path / "other" / "config.json").read_bytes())
    with pytest.raises(InputError, match=r"does not fit the face network: .* missing: down3"):
        load_face_folder(tmp_path)


def test_a_folder_that_is_none_or_of_another_class_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"config\.json cannot be read .*expected the config\.json of a UNet2DModel"):
        load_face_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(InputError, match="describes the class 'AutoencoderKL'; expected"):
        load_face_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(InputError, match=r"has no diffusion_pytorch_model\.safetensors"):
        load_face_folder(tmp_path)
