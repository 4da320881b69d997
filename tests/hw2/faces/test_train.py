"""Training a face network: the loss by its definition, options against their absence, the same weights after a stop."""

import dataclasses
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hw2.diffusion.schedule import homework_schedule
from hw2.errors import InputError
from hw2.faces.checkpoint import load_face_unet
from hw2.faces.network import FaceUNet
from hw2.faces.train import FaceTrainConfig, draw_batch, preset, train_faces
from hw2.faces.watch import Watcher
from hw2.training import learning_rate_factor
from tests.commands import Stop, run_in_two_processes, start_command
from tests.hw2.in_process import run_here
from tests.models.tiny_faces import TINY as TINY_NETWORK

TINY = FaceTrainConfig(
    num_steps=6, batch_size=4, warmup_steps=2, learning_rate=1e-2, mixed_precision="no", image_size=8,
    network=TINY_NETWORK,
)  # fmt: skip


@pytest.fixture(scope="module")
def faces():
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.fixture
def images(tmp_path):
    """A folder of six photographs, not all of one size or shape."""
    (tmp_path / "images").mkdir()
    g = np.random.default_rng(0)
    for i in range(6):
        pixels = g.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    return tmp_path / "images"


def changed(**options):
    return dataclasses.replace(TINY, **options)


def weights(folder):
    return load_file(folder / "model.safetensors")


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_batch_depends_on_seed_and_step_alone(faces):
    schedule = homework_schedule()
    first = draw_batch(faces, TINY, schedule, 3)
    for name in ("images_pm1", "noise", "timesteps"):
        assert torch.equal(getattr(first, name), getattr(draw_batch(faces, TINY, schedule, 3), name))
    assert not torch.equal(first.noise, draw_batch(faces, TINY, schedule, 4).noise)
    assert not torch.equal(first.noise, draw_batch(faces, changed(seed=1), schedule, 3).noise)


def test_half_of_the_images_are_mirrored_unless_that_is_off(faces):
    def share_of_mirrored(**options):
        batch = draw_batch(faces, changed(batch_size=400, **options), homework_schedule(), 0).images_pm1
        plain = torch.stack([(image == faces).flatten(1).all(1).any() for image in batch])
        mirrored = torch.stack([(image == faces.flip(-1)).flatten(1).all(1).any() for image in batch])
        assert (plain ^ mirrored).all()
        return float(mirrored.float().mean())

    assert 0.4 < share_of_mirrored() < 0.6
    assert share_of_mirrored(flip=False) == 0


def test_the_first_loss_is_the_definition(faces, tmp_path):
    losses = train_faces(faces, changed(num_steps=1), tmp_path, device="cpu")
    torch.manual_seed(0)
    network, schedule = FaceUNet(TINY_NETWORK), homework_schedule()
    batch = draw_batch(faces, TINY, schedule, 0)
    errors = []
    for image, noise, t in zip(batch.images_pm1, batch.noise, batch.timesteps, strict=True):
        abar = schedule.alpha_cumprod(int(t))
        noisy = abar**0.5 * image + (1 - abar) ** 0.5 * noise
        with torch.no_grad():
            errors.append(float(((network(noisy[None], t[None])[0] - noise) ** 2).mean()))
    assert float(losses[0]) == pytest.approx(sum(errors) / len(errors), rel=1e-4)


def test_training_learns(faces, tmp_path):
    losses = train_faces(faces, changed(num_steps=30, batch_size=8), tmp_path, device="cpu")
    assert losses.shape == (30,)
    assert losses[-10:].mean() < 0.8 * losses[:10].mean()
    assert load_face_unet(tmp_path / "model.safetensors").config == TINY_NETWORK


class StoppedError(Exception):
    pass


def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(faces, tmp_path):
    config = changed(mixed_precision="bf16")
    whole = train_faces(faces, config, tmp_path / "whole", device="cpu")

    def stop(progress):
        if progress.step == 5:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_faces(faces, config, tmp_path / "parts", device="cpu", save_every=2, report_every=1, watch=stop)
    seen = []
    options = {"device": "cpu", "resume": True, "report_every": 1, "watch": lambda p: seen.append(p.step)}
    resumed = train_faces(faces, config, tmp_path / "parts", **options)
    assert seen == [5, 6]  # it continues from step 4
    assert torch.equal(whole, resumed)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_step_in_parts_is_the_step_in_one(faces, tmp_path):
    config = changed(num_steps=3)
    whole = train_faces(faces, config, tmp_path / "whole", device="cpu")
    in_parts = train_faces(faces, config, tmp_path / "parts", device="cpu", accumulation=4)
    torch.testing.assert_close(in_parts, whole, rtol=1e-4, atol=1e-5)


SHORT = changed(num_steps=3)


@pytest.fixture(scope="module")
def unchanged(faces, tmp_path_factory):
    """The weights of the short recipe."""
    folder = tmp_path_factory.mktemp("unchanged")
    train_faces(faces, SHORT, folder, device="cpu")
    return weights(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"learning_rate": 1e-3},
        {"batch_size": 2},
        {"warmup_steps": 0},
        {"ema_decay": 0.1},
        {"decay_fraction": 1.0},
        {"max_grad_norm": 1e-3},
        {"weight_decay": 0.9},
        {"mixed_precision": "bf16"},
        {"flip": False},
    ],
)
def test_every_option_changes_the_weights(faces, unchanged, tmp_path, monkeypatch, change):
    monkeypatch.setattr("hw2.devices.arithmetic.cpu_has_bfloat16", lambda: True)
    train_faces(faces, dataclasses.replace(SHORT, **change), tmp_path / "run", device="cpu")
    assert not equal(unchanged, weights(tmp_path / "run"))


def test_a_run_is_resumed_only_with_its_own_recipe_and_images(faces, tmp_path):
    with pytest.raises(InputError, match="nothing to resume"):
        train_faces(faces, SHORT, tmp_path, device="cpu", resume=True)
    train_faces(faces, SHORT, tmp_path, device="cpu")
    with pytest.raises(InputError, match="belongs to an earlier run"):
        train_faces(faces, SHORT, tmp_path, device="cpu")
    with pytest.raises(InputError, match=r"another recipe \(flip\)"):
        train_faces(faces, dataclasses.replace(SHORT, flip=False), tmp_path, device="cpu", resume=True)
    with pytest.raises(InputError, match="was trained on other images"):
        train_faces(-faces, SHORT, tmp_path, device="cpu", resume=True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"image_size": 9}, "image_size must be a multiple of 2"),
        ({"image_size": 0}, "image_size must be a multiple of 2"),
        ({"num_steps": 0}, "num_steps must be 1 or more"),
        ({"learning_rate": float("nan")}, "learning_rate must be a positive number"),
    ],
)
def test_recipes_that_cannot_be_trained_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        changed(**options)


def test_faces_of_another_size_are_refused(faces, tmp_path):
    with pytest.raises(ValueError, match=r"must be \(N, 3, 16, 16\)"):
        train_faces(faces, changed(image_size=16), tmp_path, device="cpu")
    with pytest.raises(ValueError, match=r"got \(0, 3, 8, 8\)"):
        train_faces(faces[:0], TINY, tmp_path, device="cpu")


def test_the_presets_are_those_of_the_two_networks(bundled_model):
    bundled, official = preset("bundled"), preset("official")
    assert load_face_unet(bundled_model).config == bundled.network
    with torch.device("meta"):
        assert official.network == FaceUNet().config
    assert (bundled.num_steps, bundled.batch_size, bundled.learning_rate, bundled.ema_decay) == (4000, 32, 1e-3, 0.998)
    for step in (0, 50, 99, 100, 2399, 2400, 3000, 3999):
        factor = min(1, (step + 1) / 100) * min(1, 2.5 * (1 - step / 4000))
        assert learning_rate_factor(step, bundled) == pytest.approx(factor)
    assert (official.num_steps, official.batch_size, official.learning_rate) == (500_000, 64, 2e-5)
    assert learning_rate_factor(499_999, official) == 1
    with pytest.raises(ValueError, match="'fast'"):
        preset("fast")


def test_tensorboard_shows_curves_and_faces(faces, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watch = Watcher(tmp_path, 8, "cpu", pictures_every=4)
    train_faces(faces, TINY, tmp_path, device="cpu", report_every=2, watch=watch)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name in ("loss", "gradient norm", "images per second", "learning rate"):
        assert [e.step for e in events.Scalars(name)] == [2, 4, 6]
    (picture,) = events.Images("faces")
    assert (picture.step, picture.width, picture.height) == (4, 64, 8)


# --- the command ---


def command(images, output, *more):
    recipe = ["--preset", "bundled", "--image-size", 8, "--num-steps", 8, "--batch-size", 4, "--save-every", 3]
    options = ["--images", images, "--output", output, "--device", "cpu", "--pictures-every", 0]
    options += ["--mixed-precision", "no"]
    return ["faces", "train", *options, *recipe, *more]


def test_what_is_trained_can_be_sampled(tmp_path, images, noise_folder, tiny_recipes):
    run = run_here(*command(images, tmp_path / "run", "--num-steps", 2))
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
    assert "2 of 2" in run.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint.pt", "model.safetensors"]
    trained = ["--noise", noise_folder, "--checkpoint", tmp_path / "run" / "model.safetensors", "--device", "cpu"]
    run = run_here("faces", "sample", *trained, "--num-inference-steps", 2, "--output", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 5


@pytest.mark.parametrize("how", [pytest.param(signal.SIGKILL, marks=pytest.mark.long), signal.SIGINT])
def test_a_killed_training_continues_to_the_same_model(tmp_path, images, tiny_recipes, how):
    assert run_here(*command(images, tmp_path / "whole")).returncode == 0
    arguments = command(images, tmp_path / "killed")
    run = start_command("tests.models.tiny_recipes", *arguments, stop=Stop("checkpoint.pt", how)).ended()
    assert run.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), run.stderr
    if how == signal.SIGINT:
        assert "run the same command with --resume" in run.stderr
    assert torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)["done"] == 3
    assert run_here(*arguments, "--resume").returncode == 0
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


@pytest.mark.long
def test_two_processes_have_the_loss_curve_of_one(tmp_path, images, tiny_recipes):
    assert run_here(*command(images, tmp_path / "one")).returncode == 0
    run = run_in_two_processes("tests.models.tiny_recipes", *command(images, tmp_path / "two"))
    assert run.returncode == 0, run.stderr
    one, two = (torch.load(tmp_path / n / "checkpoint.pt", weights_only=True)["losses"] for n in ("one", "two"))
    torch.testing.assert_close(one, two, rtol=1e-3, atol=0)
    assert one.std() > 0.01


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--images", "nowhere"), "nowhere is not a folder; expected one with photographs of faces"),
        (("--images", "hw2/files"), "hw2/files has no images"),
        (("--batch-size", 0), "this recipe cannot be trained: batch_size must be 1 or more"),
        (("--image-size", 9), "image_size must be a multiple of 4"),
        (("--learning-rate", -1), "learning_rate must be a positive number"),
        (("--save-every", 0), "--save-every is 0; expected 1 or more"),
        (("--pictures-every", -1), "--pictures-every is -1; expected 0 or more"),
        (("--device", "tpu"), "the device is 'tpu'"),
        (("--resume",), "there is nothing to resume; start a new run, without resuming (--resume)"),
    ],
)
def test_a_training_that_cannot_be_done_is_refused(tmp_path, images, option, sentence):
    run = run_here(*command(images, tmp_path / "run"), *option)
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1), run.stderr
    assert sentence in run.stderr
    assert not (tmp_path / "run").exists()
