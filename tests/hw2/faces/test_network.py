import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from hw2.faces.network import FaceUNet, FaceUNetConfig
from hw2.faces.sample import batch_invariant
from tests.models.tiny_faces import TINY, random_face_weights
from tests.oracles import diffusers_face_unet

CONFIGS = [
    TINY,
    FaceUNetConfig(channel=32, channel_multipliers=(1, 2, 3), num_res_blocks=2, attention_levels=(2,), num_groups=8),
    FaceUNetConfig(channel=16, channel_multipliers=(1, 1, 2), num_res_blocks=1, attention_levels=(), num_groups=4),
    FaceUNetConfig(channel=16, channel_multipliers=(1, 3), num_res_blocks=3, attention_levels=(0, 1), num_groups=8),
    dataclasses.replace(FaceUNetConfig(), channel=8, num_groups=8),  # the official levels
]


def with_random_weights(config, seed=0):
    network = FaceUNet(config).eval().requires_grad_(False)
    weights = random_face_weights(network, seed)
    network.load_state_dict(weights)
    return network, weights


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_it_computes_the_network_of_diffusers_to_the_last_digits(config):
    network, weights = with_random_weights(config)
    theirs = diffusers_face_unet(weights, config).double()
    side = max(16, 2 * config.downsampling)
    sample = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    timesteps = torch.tensor([981, 21, 0])
    ours = network.double()(sample, timesteps)
    expected = theirs(sample, timesteps).sample
    assert expected.std() > 0.1
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("pixels", [64, pytest.param(256, marks=pytest.mark.slow)])
def test_the_official_size_equals_diffusers(pixels):
    network, weights = with_random_weights(FaceUNetConfig())
    theirs = diffusers_face_unet(weights, FaceUNetConfig())
    sample = torch.randn(1, 3, pixels, pixels, generator=torch.Generator().manual_seed(1))
    timesteps = torch.tensor([981])
    expected = theirs(sample, timesteps).sample
    ours = batch_invariant(network)(sample, timesteps)
    assert (ours - expected).abs().max() / expected.abs().max() < 1e-5
    with_company = batch_invariant(network)(torch.cat([sample, -sample]), timesteps)
    assert torch.equal(ours, with_company[:1]), "bit for bit the same, whoever shares the batch"


def test_the_default_has_the_number_of_official_parameters():
    with torch.device("meta"):
        network = FaceUNet()
    assert sum(p.numel() for p in network.parameters()) == 113_673_219  # SPEC section 3
    assert len(network.state_dict()) == 427


def test_the_default_has_exactly_the_official_keys_and_shapes(shared_data):
    official = json.loads((shared_data / "face_unet_state_dict.json").read_text())
    with torch.device("meta"):
        ours = {name: list(value.shape) for name, value in FaceUNet().state_dict().items()}
    assert ours == official


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("time.0.inv_freq", [64]),
        ("down1.weight", [128, 3, 3, 3]),
        ("down8.resblocks.skip.weight", [256, 128, 1, 1]),
        ("down14.attention.qkv.weight", [1536, 512, 1, 1]),
        ("down16.0.bias", [512]),
        ("mid1.attention.out.bias", [512]),
        ("up7.resblocks.norm1.weight", [768]),
        ("up20.1.weight", [128, 128, 3, 3]),
        ("out.2.weight", [3, 128, 3, 3]),
    ],
)
def test_official_keys_by_sample(key, shape):
    # The full list is checked above where it is at hand.
    with torch.device("meta"):
        assert list(FaceUNet().state_dict()[key].shape) == shape


def test_the_timestep_and_every_pixel_matter():
    network, _ = with_random_weights(TINY)
    sample = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    out = network(sample, torch.tensor([5]))
    assert not torch.allclose(out, network(sample, torch.tensor([6])))
    sample[0, 0, 7, 7] += 1
    assert (network(sample, torch.tensor([5])) != out).all()


def test_one_timestep_for_all_is_the_same_as_one_for_each():
    network, _ = with_random_weights(TINY)
    sample = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    each = network.double()(sample, torch.full((4,), 961))
    torch.testing.assert_close(network(sample, torch.tensor([961])), each, rtol=1e-12, atol=1e-12)


def test_bfloat16_keeps_exact_timestep_frequencies():
    network, _ = with_random_weights(TINY)
    sample, timesteps = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([981])
    exact = network(sample, timesteps)
    frequencies = network.time[0].inv_freq.clone()
    network.to(torch.bfloat16)
    assert torch.equal(network.time[0].inv_freq, frequencies)
    assert network.down1.weight.dtype == torch.bfloat16
    torch.testing.assert_close(network(sample.bfloat16(), timesteps).float(), exact, rtol=0.05, atol=0.05)


def test_an_untrained_network_starts_at_zero():
    assert not FaceUNet(TINY)(torch.randn(1, 3, 8, 8), torch.tensor([1])).any()


@settings(max_examples=20)
@given(st.integers(1, 3), st.sampled_from([2, 4, 6]), st.sampled_from([2, 8]))
def test_images_need_not_be_square(batch, height, width):
    network, _ = with_random_weights(TINY)
    assert network(torch.zeros(batch, 3, height, width), torch.zeros(batch)).shape == (batch, 3, height, width)


def test_the_operation_count_of_the_official_size():
    # 2 operations per multiply-add of convolutions, linear layers and attention; the README and `make bench` quote it.
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        FaceUNet()(torch.empty(1, 3, 256, 256), torch.empty(1))
    assert counter.get_total_flops() == pytest.approx(497e9, rel=0.01)


@pytest.mark.parametrize(
    "sizes",
    [
        {"channel": 0},
        {"channel": 33},
        {"channel": 48},
        {"channel_multipliers": ()},
        {"channel_multipliers": (1, 2.5)},
        {"num_res_blocks": -1},
        {"num_res_blocks": 10**9},
        {"num_res_blocks": 17},
        {"channel_multipliers": (1,) * 11},
        {"attention_levels": (6,)},
        {"channel": "128"},
        {"num_groups": True},
    ],
    ids=str,
)
def test_sizes_that_build_no_network_are_refused(sizes):
    with pytest.raises(ValueError, match=r"integer|levels|divisible|at most"):
        FaceUNetConfig(**sizes)
