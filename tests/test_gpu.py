"""Tests that need a CUDA device: `pytest -m gpu`."""

from __future__ import annotations

import pytest
import torch

from hw2.concepts.compose import Composition, draw_blended
from hw2.concepts.generate import ConceptSampler, fitting_batch_size
from hw2.concepts.stable_diffusion import load_stable_diffusion
from hw2.diffusion.interpolate import slerp
from hw2.digits.checkpoint import load_digit_model
from hw2.digits.data import load_digits
from hw2.digits.sample import DigitSampler, digit_to_u8, official_names
from hw2.digits.train import TrainConfig, train_digits
from hw2.faces.checkpoint import load_face_unet
from hw2.faces.network import FaceUNet
from hw2.faces.sample import FaceSampler, batch_invariant, face_to_u8, load_noises
from tests.models.sd_v1_random import random_sd_v1
from tests.models.tiny_faces import random_face_weights
from tests.models.tiny_sd import save_tiny_stable_diffusion
from tests.oracles import diffusers_face_unet

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def official_size() -> FaceUNet:
    network = FaceUNet()
    network.load_state_dict(random_face_weights(network, seed=0))
    return network.cuda().eval().requires_grad_(False)


def test_the_official_network_equals_diffusers_on_a_gpu(official_size):
    theirs = diffusers_face_unet({k: v.cpu() for k, v in official_size.state_dict().items()}, official_size.config)
    sample = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(1)).cuda()
    timesteps = torch.tensor([981, 1]).cuda()
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        ours, expected = official_size(sample, timesteps), theirs.cuda()(sample, timesteps).sample
    assert (ours - expected).abs().max() / expected.abs().max() < 1e-4


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_gpu_draws_the_faces_of_a_cpu(bundled_model, bundled_data, eta):
    noises = load_noises(bundled_data / "face" / "noise")
    faces = {}
    for device in ("cpu", "cuda"):
        network = batch_invariant(load_face_unet(bundled_model, device=device))
        faces[device] = dict(FaceSampler(network, device=device).sample(noises, eta))
    for name, face in faces["cpu"].items():
        difference = face_to_u8(face).astype(float) - face_to_u8(faces["cuda"][name])
        assert (difference**2).mean() < 0.05, name


def test_two_runs_on_a_gpu_are_the_same_bit_for_bit(bundled_model, bundled_data):
    noises = load_noises(bundled_data / "face" / "noise")
    network = batch_invariant(load_face_unet(bundled_model, device="cuda"))
    runs = [dict(FaceSampler(network, device="cuda").sample(noises, 0.5)) for _ in range(2)]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in noises)


def test_bfloat16_faces_stay_close_to_float32(bundled_model, bundled_data):
    noises = load_noises(bundled_data / "face" / "noise")
    exact = dict(
        FaceSampler(batch_invariant(load_face_unet(bundled_model, device="cuda")), device="cuda").sample(noises)
    )
    network = load_face_unet(bundled_model, device="cuda", dtype=torch.bfloat16)
    rough = dict(FaceSampler(batch_invariant(network, torch.bfloat16), device="cuda").sample(noises))
    errors = [((face_to_u8(exact[n]).astype(float) - face_to_u8(rough[n])) ** 2).mean() for n in noises]
    assert 0 < sum(errors) / len(errors) < 100


def test_slerp_on_a_gpu_equals_slerp_on_a_cpu():
    start, end = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(slerp(start.cuda(), end.cuda(), 0.3).cpu(), slerp(start, end, 0.3))


def test_slerp_refuses_to_join_two_devices():
    with pytest.raises(ValueError, match="same device, got cpu and cuda"):
        slerp(torch.ones(2), torch.ones(2).cuda(), 0.5)


def test_a_gpu_draws_the_digits_of_a_cpu(bundled_digit_model):
    names = official_names(2)
    digits = {}
    for device in ("cpu", "cuda"):
        sampler = DigitSampler(load_digit_model(bundled_digit_model, device=device), device=device)
        digits[device] = dict(sampler.sample(names))
    for name, digit in digits["cpu"].items():
        difference = digit_to_u8(digit).astype(float) - digit_to_u8(digits["cuda"][name])
        assert (difference**2).mean() < 1, name


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_learns_as_a_cpu_does(digits_folder, tmp_path, compiled):
    data = load_digits(digits_folder, tmp_path / "cache")
    config = TrainConfig(num_steps=20, batch_size=16, warmup_steps=5, mixed_precision="no")
    losses = train_digits(data, config, tmp_path / "run", device="auto", compile_network=compiled)
    assert losses[-5:].mean() < losses[:5].mean()
    assert load_digit_model(tmp_path / "run" / "model.safetensors").network.config == config.network


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_stable_diffusion_of_the_real_size_fits_the_homeworks_gpu_and_time(dtype):
    sampler = random_sd_v1(dtype)
    assert fitting_batch_size(sampler.model) >= 5
    names = {str(i): "a photo of a dog" for i in range(5)}
    list(sampler.sample(names))
    torch.cuda.reset_peak_memory_stats()
    images = dict(sampler.sample(names))
    assert torch.cuda.max_memory_allocated() < 20 * 2**30
    assert all(image.shape == (3, 512, 512) and bool(image.isfinite().all()) for image in images.values())


def test_blending_at_the_real_size_fits_the_homeworks_gpu():
    sampler = random_sd_v1(torch.float16)
    words = {"<new1>": "dog", "<new2>": "cat"}
    sampler.model.add_words({token: torch.randn(1, 768) * 0.01 for token in words})
    composition = Composition("a <new1> and a <new2> on the beach", words)
    torch.cuda.reset_peak_memory_stats()
    images = dict(draw_blended(sampler, composition, [str(i) for i in range(5)]))
    assert torch.cuda.max_memory_allocated() < 20 * 2**30
    assert all(image.shape == (3, 512, 512) and bool(image.isfinite().all()) for image in images.values())


def test_a_gpu_draws_the_concepts_of_a_cpu(tmp_path):
    folder = save_tiny_stable_diffusion(tmp_path)
    names = {str(i): "a red dog on the beach" for i in range(3)}
    drawn = {}
    for device in ("cpu", "cuda"):
        drawn[device] = dict(ConceptSampler(load_stable_diffusion(folder, device=device)).sample(names))
    for name in names:
        assert torch.allclose(drawn["cpu"][name], drawn["cuda"][name], atol=1e-2)
