"""What number formats change, measured on a CPU: the limits of the GPU tests catch TF32 and let other kernels pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from grading.judges.clip import load_clip
from hw2.concepts.commands.options import BUNDLED_GUIDANCE_SCALE, read_words
from hw2.concepts.generate import ConceptSampler
from hw2.concepts.stable_diffusion import StableDiffusion, load_stable_diffusion
from hw2.digits.checkpoint import load_digit_model
from hw2.digits.sample import DigitSampler, official_names
from hw2.faces.checkpoint import load_face_unet
from hw2.faces.sample import FaceSampler, batch_invariant, face_to_u8, load_noises
from hw2.files.bundled import SMALL_SD
from tests import rounded
from tests.commands import ROOT
from tests.models.tiny_sd import save_tiny_stable_diffusion
from tests.rounded import Rounded, half, tf32

pytestmark = pytest.mark.long
Draw = Callable[[], dict[str, Tensor]]
WORDS = ROOT / "fixtures" / "submissions" / "reference" / "learned"
PROMPTS = {"object": "A <new1> under water.", "style": "A boat at night in the style of <new2>."}


def root_mean_square(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().mean().sqrt())


def largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def some_noises(data, count: int) -> dict[str, Tensor]:
    """The first of the ten bundled noises."""
    return dict(itertools.islice(load_noises(data / "face" / "noise").items(), count))


@pytest.fixture
def draw(request, bundled_model, bundled_digit_model, bundled_data, tmp_path) -> Draw:
    """Draws a problem's images anew."""
    if request.param == "digits":
        model = load_digit_model(bundled_digit_model)
        return lambda: dict(DigitSampler(model).sample(official_names(1)))
    if request.param == "faces":
        network = batch_invariant(load_face_unet(bundled_model))
        noises = some_noises(bundled_data, 2)
        return lambda: dict(FaceSampler(network).sample(noises, eta=1.0))
    sampler = ConceptSampler(load_stable_diffusion(save_tiny_stable_diffusion(tmp_path)))
    return lambda: dict(sampler.sample({str(i): "a red dog on the beach" for i in range(3)}))


@pytest.mark.parametrize(
    ("draw", "distance", "limit"),
    [
        ("digits", root_mean_square, rounded.DIGITS),
        ("faces", largest, rounded.FACES),
        ("concepts", largest, rounded.CONCEPTS),
    ],
    indirect=["draw"],
)
def test_a_limit_of_the_gpu_tests_is_between_other_kernels_and_tf32(draw, distance, limit):
    exact = draw()
    torch._C._set_mkldnn_enabled(False)  # type: ignore[attr-defined]
    try:
        other_kernels = draw()
    finally:
        torch._C._set_mkldnn_enabled(True)  # type: ignore[attr-defined]
    with Rounded(tf32):
        in_tf32 = draw()
    assert 0 < max(distance(exact[name], other_kernels[name]) for name in exact) < limit / 4
    assert max(distance(exact[name], in_tf32[name]) for name in exact) > 3 * limit


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.bfloat16, rounded.FACES_BFLOAT16), (torch.float16, rounded.FACES_FLOAT16)]
)
def test_faces_in_16_bits_stay_close_to_float32(bundled_model, bundled_data, dtype, limit):
    noises = some_noises(bundled_data, 3)
    exact = dict(FaceSampler(batch_invariant(load_face_unet(bundled_model))).sample(noises))
    network = load_face_unet(bundled_model, dtype=dtype).float()

    def in_16_bits(sample: Tensor, timesteps: Tensor) -> Tensor:
        with half(dtype):
            return network(sample.to(dtype).float(), timesteps[:1])

    rough = dict(FaceSampler(in_16_bits).sample(noises))
    errors = [((face_to_u8(exact[n]).astype(float) - face_to_u8(rough[n])) ** 2).mean() for n in noises]
    assert limit / 20 < np.median(errors) < limit


def drawn_in(dtype: torch.dtype, names: dict[str, str]) -> list[np.ndarray]:
    """Pictures of the small world by a model that computes in this number format, pixels (H, W, 3)."""
    model = load_stable_diffusion(SMALL_SD, dtype=dtype)
    for network in (model.unet, model.vae, model.text_encoder):
        torch.nn.Module.to(network, dtype=torch.float32)
    model.add_words(read_words([str(WORDS / "new1.safetensors"), str(WORDS / "new2.safetensors")]))
    sampler = ConceptSampler(model, guidance_scale=BUNDLED_GUIDANCE_SCALE, batch_size=8)
    if dtype == torch.float32:
        return [picture for _, picture in sampler.pixels(names)]

    def rounding(method):
        def call(*arguments):
            with half(dtype):
                return method(*arguments)

        return call

    methods = ("predict", "decode", "encode_tokens")
    with mock.patch.multiple(StableDiffusion, **{name: rounding(getattr(StableDiffusion, name)) for name in methods}):
        return [picture for _, picture in sampler.pixels(names)]


def test_pictures_in_16_bits_get_the_clip_scores_of_float32():
    """On a GPU, pictures are drawn in 16 bits by default; no prompt's score moves by more than a seed moves it."""
    names = {f"{key} {i}": prompt for key, prompt in PROMPTS.items() for i in range(4)}
    clip = load_clip("embedded")
    text = clip.text_features(list(names.values()))

    def scores(dtype):
        features = clip.image_features(drawn_in(dtype, names))
        return clip.logit_scale * (features * text).sum(1)

    exact = scores(torch.float32)
    for dtype, limit in (
        (torch.float16, rounded.SCORES_FLOAT16),
        (torch.bfloat16, rounded.SCORES_BFLOAT16),
    ):
        moved = (scores(dtype) - exact).reshape(len(PROMPTS), -1)
        assert np.abs(moved).max() > 0
        assert np.abs(moved.mean(1)).max() < limit
    assert limit < exact.reshape(len(PROMPTS), -1).std(1).min()
