"""Tests that need a CUDA device: `pytest -m gpu`. What they measure is written to build/gpu.json.

Limits are those of `tests.rounded`, and 20 GiB: the memory of the course's card.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hw2.concepts.compose import Composition, draw_blended
from hw2.concepts.generate import ConceptSampler, fit_batch
from hw2.concepts.inversion import Inversion
from hw2.concepts.recipe import InversionConfig
from hw2.concepts.stable_diffusion import load_stable_diffusion
from hw2.devices.arithmetic import half_precision, training_arithmetic
from hw2.devices.choose import cuda_devices
from hw2.diffusion.interpolate import slerp
from hw2.digits.checkpoint import load_digit_model
from hw2.digits.data import DigitImages, load_digits
from hw2.digits.recognizer import load_recognizer
from hw2.digits.sample import DigitSampler, official_names
from hw2.digits.train import TrainConfig, train_digits
from hw2.faces.checkpoint import load_face_unet
from hw2.faces.network import FaceUNet
from hw2.faces.sample import FaceSampler, batch_invariant, face_to_u8, load_noises
from hw2.files.bundled import DIGIT_RECOGNIZER, DIGIT_STUDENT, DIGIT_UNET
from tests import rounded
from tests.commands import ROOT
from tests.models.sd_v1_random import random_sd_v1
from tests.models.tiny_faces import random_face_weights
from tests.models.tiny_sd import save_tiny_stable_diffusion
from tests.oracles import diffusers_face_unet

pytestmark = pytest.mark.gpu
GIB = 2**30
REPORT = ROOT / "build" / "gpu.json"
TWO = pytest.mark.skipif(cuda_devices() < 2, reason="needs two CUDA devices")
WORDS = ROOT / "fixtures" / "submissions" / "reference" / "learned"


class Measured(dict[str, object]):
    """Figures of this run, by name; the file has each of them at once, whatever stops the run."""

    def of(self, name: str, seconds: float, images: int | None = None) -> None:
        """Keep a time, the peak memory since the last reset, and images per second."""
        self[name] = {
            "seconds": round(seconds, 3),
            "peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 2),
            **({} if images is None else {"images_per_second": round(images / seconds, 3)}),
        }
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(json.dumps(self, indent=1) + "\n")


@pytest.fixture(scope="session")
def report() -> Measured:
    """What the tests measure."""
    return Measured(
        device=torch.cuda.get_device_name(), torch=torch.__version__, cuda=torch.version.cuda, host=platform.platform()
    )


@pytest.fixture(autouse=True)
def _own_memory() -> None:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


@pytest.fixture(scope="module")
def official_size() -> FaceUNet:
    network = FaceUNet()
    network.load_state_dict(random_face_weights(network, seed=0))
    return network.cuda().eval().requires_grad_(False)


def run(*arguments: object, expect: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of hw2 in its own process."""
    command = [sys.executable, "-m", "hw2", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **variables})
    assert done.returncode == expect, done.stderr[-2000:]
    return done


def train(folder: Path, data: Path, *options: object, **variables: str) -> dict[str, torch.Tensor]:
    """The weights of a training of 20 steps of 64 digits."""
    recipe = ("--num-steps", 20, "--batch-size", 64, "--pictures-every", 0, "--cache", folder.parent / "cache")
    run("digits", "train", "--data", data, "--output", folder, *recipe, *options, **variables)
    return load_file(folder / "model.safetensors")


def losses(folder: Path) -> torch.Tensor:
    return torch.load(folder / "checkpoint.pt", weights_only=True, map_location="cpu")["losses"]


# --- images ---


def test_the_official_network_equals_diffusers_on_a_gpu(official_size):
    theirs = diffusers_face_unet({k: v.cpu() for k, v in official_size.state_dict().items()}, official_size.config)
    sample = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(1)).cuda()
    timesteps = torch.tensor([981, 1]).cuda()
    with training_arithmetic(deterministic=False):
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
        assert (face - faces["cuda"][name]).abs().max() < rounded.FACES, name


def test_two_runs_on_a_gpu_are_the_same_bit_for_bit(bundled_model, bundled_data):
    noises = load_noises(bundled_data / "face" / "noise")
    network = batch_invariant(load_face_unet(bundled_model, device="cuda"))
    runs = [dict(FaceSampler(network, device="cuda").sample(noises, 0.5)) for _ in range(2)]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in noises)


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.bfloat16, rounded.FACES_BFLOAT16), (torch.float16, rounded.FACES_FLOAT16)]
)
def test_faces_in_16_bits_stay_close_to_float32(bundled_model, bundled_data, report, dtype, limit):
    noises = load_noises(bundled_data / "face" / "noise")
    exact = dict(
        FaceSampler(batch_invariant(load_face_unet(bundled_model, device="cuda")), device="cuda").sample(noises)
    )
    network = load_face_unet(bundled_model, device="cuda", dtype=dtype)
    rough = dict(FaceSampler(batch_invariant(network, dtype), device="cuda").sample(noises))
    errors = [((face_to_u8(exact[n]).astype(float) - face_to_u8(rough[n])) ** 2).mean() for n in noises]
    report[f"P2 faces in {dtype}, mean squared error to float32"] = [round(float(error), 3) for error in errors]
    assert 0 < statistics.median(errors) < limit


def test_slerp_on_a_gpu_equals_slerp_on_a_cpu():
    start, end = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(slerp(start.cuda(), end.cuda(), 0.3).cpu(), slerp(start, end, 0.3))


def test_slerp_refuses_to_join_two_devices():
    with pytest.raises(ValueError, match="same device, got cpu and cuda"):
        slerp(torch.ones(2), torch.ones(2).cuda(), 0.5)


@pytest.mark.parametrize(("checkpoint", "again"), [(DIGIT_UNET, False), (DIGIT_STUDENT, True)])
def test_a_gpu_draws_the_digits_of_a_cpu(checkpoint, again):
    names = official_names(2)
    digits = {}
    for device in ("cpu", "cuda"):
        recognizer = load_recognizer(DIGIT_RECOGNIZER, device) if again else None
        sampler = DigitSampler(load_digit_model(checkpoint, device=device), device=device, recognizer=recognizer)
        digits[device] = dict(sampler.sample(names))
    for name, digit in digits["cpu"].items():
        assert (digit - digits["cuda"][name]).square().mean().sqrt() < rounded.DIGITS, name


def test_a_gpu_draws_the_concepts_of_a_cpu(tmp_path):
    folder = save_tiny_stable_diffusion(tmp_path)
    names = {str(i): "a red dog on the beach" for i in range(3)}
    drawn = {}
    for device in ("cpu", "cuda"):
        drawn[device] = dict(ConceptSampler(load_stable_diffusion(folder, device=device)).sample(names))
    for name in names:
        assert (drawn["cpu"][name] - drawn["cuda"][name]).abs().max() < rounded.CONCEPTS, name


def test_the_homeworks_1000_digits_are_drawn_in_seconds(bundled_digit_model, report):
    sampler = DigitSampler(load_digit_model(bundled_digit_model, device="cuda"), device="cuda")
    list(sampler.sample(official_names(5)))
    began = time.perf_counter()
    assert len(list(sampler.sample(official_names()))) == 1000
    report.of("P1 1000 digits, float32", time.perf_counter() - began, 1000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_ten_faces_of_the_real_size_are_drawn_within_the_homeworks_time(official_size, report, dtype):
    network = FaceUNet(official_size.config).cuda().to(dtype).eval().requires_grad_(False)
    noises = {f"{i:02d}": torch.randn(1, 3, 256, 256) for i in range(10)}
    began = time.perf_counter()
    list(FaceSampler(batch_invariant(network, dtype), device="cuda").sample(noises))
    seconds = time.perf_counter() - began
    report.of(f"P2 10 faces, {dtype}", seconds, 10)
    assert seconds < 15 * 60


# --- training of Problem 1 ---


def test_a_gpu_learns_what_a_cpu_learns(digits_folder, tmp_path):
    """The same batches would need the same random numbers, which a GPU draws otherwise: only the course is compared."""
    for device in ("cpu", "cuda"):
        train(tmp_path / device, digits_folder, "--mixed-precision", "no", "--device", device, "--no-compile")
    on_cpu, on_gpu = (losses(tmp_path / device) for device in ("cpu", "cuda"))
    assert on_gpu[-5:].mean() < on_gpu[:5].mean()
    torch.testing.assert_close(on_gpu[-5:].mean(), on_cpu[-5:].mean(), rtol=0.25, atol=0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_default_recipe_learns_what_float32_learns(digits_folder, tmp_path, precision):
    """Compiled and in 16 bits, the loss follows that of float32, step by step from the same random numbers."""
    train(tmp_path / "exact", digits_folder, "--mixed-precision", "no", "--no-compile")
    train(tmp_path / "fast", digits_folder, "--mixed-precision", precision)
    torch.testing.assert_close(losses(tmp_path / "fast"), losses(tmp_path / "exact"), rtol=0.05, atol=0.02)


def test_a_deterministic_training_resumes_to_the_same_bits(digits_folder, tmp_path):
    data = load_digits(digits_folder, tmp_path / "cache")
    config = TrainConfig(num_steps=20, batch_size=64)
    options = {"deterministic": True, "compile_network": False, "save_every": 4, "report_every": 1}

    def stop(progress):
        if progress.step == 10:
            raise InterruptedError

    train_digits(data, config, tmp_path / "whole", **options)
    with pytest.raises(InterruptedError):
        train_digits(data, config, tmp_path / "parts", **options, watch=stop)
    train_digits(data, config, tmp_path / "parts", **options, resume=True)
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_default_training_is_measured(tmp_path, report):
    """The real recipe on as many images as the homework has, for its memory and rate."""
    count = 130_000
    images = torch.randint(256, (count, 3, 28, 28), dtype=torch.uint8)
    data = DigitImages(images, torch.arange(count) % 10, torch.arange(count) // 10 % 2)
    seen = []
    config = dataclasses.replace(TrainConfig(), num_steps=300, decay_fraction=0.0)
    train_digits(data, config, tmp_path / "run", report_every=100, watch=seen.append)
    rate = seen[-1].images_per_second  # of the last 100 steps, after compiling
    images_in_all = 40_000 * config.batch_size
    report.of("P1 training, default recipe, 40,000 steps", images_in_all / rate, images_in_all)
    assert torch.cuda.max_memory_allocated() < 20 * GIB


@TWO
def test_the_second_gpu_is_used_if_it_is_asked_for(digits_folder, tmp_path):
    """With the first one hidden, the number would be refused; here nothing may be allocated on it."""
    weights = train(tmp_path / "run", digits_folder, "--device", "cuda:1", "--no-compile", "--deterministic")
    first = train(tmp_path / "first", digits_folder, "--device", "cuda:0", "--no-compile", "--deterministic")
    assert all(torch.equal(weights[name], first[name]) for name in weights)


@TWO
def test_two_gpus_draw_the_digits_of_one(tmp_path):
    options = ("digits", "sample", "--per-digit", 2, "--output")
    run(*options, tmp_path / "one", "--device", "cuda")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "hw2"]
    subprocess.run([*launch, *map(str, options), str(tmp_path / "two")], check=True, cwd=ROOT)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png"))
    assert len(files) == 40
    assert files == sorted(path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*.png"))


# --- Problem 3 at the size of Stable Diffusion v1.4 ---


def test_a_quarter_of_the_homeworks_pictures_is_drawn_in_a_quarter_of_its_time(report):
    """25 pictures in the format and the batch that are chosen by themselves; 100 have 15 minutes."""
    sampler = random_sd_v1(half_precision("cuda"))
    sampler = dataclasses.replace(sampler, batch_size=fit_batch(sampler.model).images)
    names = {str(i): "a photo of a dog" for i in range(25)}
    began = time.perf_counter()
    images = dict(sampler.sample(names))
    seconds = time.perf_counter() - began
    report.of(f"P3 25 pictures, {sampler.model.dtype}, {sampler.batch_size} at once", seconds, 25)
    assert all(image.shape == (3, 512, 512) and bool(image.isfinite().all()) for image in images.values())
    assert torch.cuda.max_memory_allocated() < 20 * GIB
    assert seconds < 15 * 60 / 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_word_of_the_real_size_is_learned_within_the_homeworks_memory(report, dtype):
    model = random_sd_v1(dtype).model
    config = InversionConfig("<new1>", "dog")
    inversion = Inversion(model, torch.zeros(5, 3, 512, 512), config)
    for step in range(4):
        if step == 1:
            torch.cuda.synchronize()
            began = time.perf_counter()
        with training_arithmetic(deterministic=False):
            inversion.loss(torch.Generator().manual_seed(step), config.batch_size, slice(None)).backward()
    torch.cuda.synchronize()
    report.of(f"P3 learn, 2000 steps, {dtype}", (time.perf_counter() - began) / 3 * 2000)
    assert bool(inversion.vectors.grad.isfinite().all())
    assert torch.cuda.max_memory_allocated() < 20 * GIB


def test_blending_at_the_real_size_fits_the_homeworks_gpu(report):
    sampler = random_sd_v1(torch.float16)
    words = {"<new1>": "dog", "<new2>": "cat"}
    sampler.model.add_words({token: torch.randn(1, 768) * 0.01 for token in words})
    composition = Composition("a <new1> and a <new2> on the beach", words)
    began = time.perf_counter()
    images = dict(draw_blended(sampler, composition, [str(i) for i in range(5)]))
    report.of("P3 5 blended pictures, float16", time.perf_counter() - began, 5)
    assert torch.cuda.max_memory_allocated() < 20 * GIB
    assert all(image.shape == (3, 512, 512) and bool(image.isfinite().all()) for image in images.values())


def test_pictures_that_do_not_fit_are_drawn_in_smaller_batches(capsys):
    """A tenth of what 25 pictures need is allowed besides the weights."""
    sampler = random_sd_v1(torch.float16, batch_size=8)
    sampler = dataclasses.replace(sampler, num_inference_steps=2)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 1.5 * GIB) / total)
    try:
        images = dict(sampler.sample({str(i): "a photo of a dog" for i in range(8)}))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(images) == 8
    assert "hw2: memory ran out with 8 images at once; going on with 4 images at once" in capsys.readouterr().err


# --- commands ---


def test_the_doctor_finds_no_problem():
    rows = json.loads(run("doctor", "--json").stdout)
    assert not [row for row in rows if row["status"] == "problem"]


def test_a_submission_draws_the_same_files_twice(tmp_path, bundled_data):
    """`--twice` runs each script a second time; on a GPU too, the files must be the same."""
    command = [sys.executable, "-m", "grading", "submission", str(ROOT / "fixtures" / "submissions" / "reference")]
    options = ("--data", bundled_data, "--judges", "embedded", "--trust", "--twice", "--output", tmp_path / "graded")
    done = subprocess.run([*command, *map(str, options)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    stages = json.loads((tmp_path / "graded" / "grade.json").read_text())["stages"]
    repeated = [stage for stage in stages if stage["stage"].endswith("twice")]
    assert len(repeated) == 3
    assert all(stage["status"] == "pass" for stage in repeated), repeated
