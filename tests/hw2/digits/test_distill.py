"""Distillation: its targets against diffusers' DDIM, its stages against the sampler, the same student after a stop."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hw2.diffusion.samplers import ddim, draw, randn
from hw2.diffusion.schedule import NoiseSchedule, linear_betas, timestep_pairs
from hw2.diffusion.seeding import image_generators
from hw2.digits.checkpoint import Distilled, load_digit_model, save_digit_model
from hw2.digits.distill import (
    DistillConfig,
    Stage,
    distill_digits,
    distill_preset,
    guidance_target,
    guided_v,
    halving_target,
    levels,
    visits,
)
from hw2.digits.folder import load_digit_folder, save_digit_folder
from hw2.digits.sample import DigitSampler, guided, labels_of
from hw2.digits.train import Batch, BatchSource, preset
from hw2.digits.watch import Watcher
from hw2.errors import InputError
from tests.hw2.in_process import run_here
from tests.oracles import diffusers_ddim_scheduler

NAMES = ["mnistm/0_001.png", "svhn/7_042.png", "svhn/9_050.png"]
TINY = DistillConfig(
    num_steps=4,
    batch_size=8,
    warmup_steps=1,
    mixed_precision="no",
    learning_rate=1e-2,
    first_steps=8,
    guidance_scale=2.0,
)


@pytest.fixture
def student(tiny_digit_model):
    return dataclasses.replace(tiny_digit_model, distilled=Distilled((999, 749, 499, 249), 3.0, (0, 800)))


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- what a student learns ---


@pytest.mark.parametrize("step", range(4))
def test_one_step_of_the_target_ends_where_two_ddim_steps_of_the_teacher_end(step):
    def teacher(sample, timesteps):
        return torch.sin(3 * sample) + timesteps[:, None, None, None] / 1000

    settings = {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "set_alpha_to_one": True}
    fine = diffusers_ddim_scheduler(8, **settings, steps_offset=0)
    coarse = diffusers_ddim_scheduler(4, **settings, steps_offset=0, clip_sample=False)
    sample = noise(2, 3, 4, 4)
    t, u, s = visits(4).flip(0)[step].expand(2, 3).unbind(1)
    assert [int(t[0]), int(u[0])] == fine.timesteps[2 * step : 2 * step + 2].tolist()
    middle = fine.step(teacher(sample, t), int(t[0]), sample).prev_sample
    end = fine.step(teacher(middle, u), int(u[0]), middle).prev_sample
    target = halving_target(levels(NoiseSchedule(linear_betas())), teacher, sample, t, u, s)
    reached = coarse.step(target, int(coarse.timesteps[step]), sample).prev_sample
    torch.testing.assert_close(reached, end, rtol=1e-5, atol=1e-5)
    assert (end - middle).abs().max() > 0.01


def test_a_teacher_that_sees_the_same_image_at_every_timestep_is_a_student_of_itself():
    abar, image = levels(DistillConfig().schedule()), noise(5, 3, 4, 4).tanh()

    def teacher(sample, timesteps):
        a = abar[timesteps][:, None, None, None]
        return (a.sqrt() * sample - image) / (1 - a).sqrt()

    t, u, s = visits(16)[[0, 1, 8, 14, 15]].unbind(1)
    sample = noise(5, 3, 4, 4, seed=1)
    torch.testing.assert_close(halving_target(abar, teacher, sample, t, u, s), teacher(sample, t), rtol=1e-4, atol=1e-4)


def batch_of(digits, datasets):
    unused = torch.zeros(len(digits), 3, 28, 28)
    return Batch(unused, unused, torch.zeros(len(digits), dtype=torch.int64), digits, datasets)


def test_the_first_stage_learns_what_the_guided_sampler_predicts(tiny_digit_model):
    digits, datasets = torch.tensor([3, 8, 1]), torch.tensor([0, 1, 1])
    sample, timesteps = noise(3, 3, 28, 28, dtype=torch.float32), torch.tensor([999, 500, 62])
    batch = batch_of(digits, datasets)
    ours = guided_v(tiny_digit_model.network, batch, 4.0, (100, 800), sample, timesteps)
    for i in range(3):
        one = slice(i, i + 1)
        theirs = guided(tiny_digit_model, digits[one], datasets[one], 4.0, (100, 800))(sample[one], timesteps[one])
        torch.testing.assert_close(ours[one], theirs, rtol=1e-4, atol=1e-5)
    unguided = guided_v(tiny_digit_model.network, batch, 1.0, (0, 1000), sample, timesteps)
    same = [torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(ours, unguided, strict=True)]
    assert same == [True, False, True], "guided from 100 to before 800 alone"


def test_its_target_shows_the_clamped_image_and_is_the_prediction_where_nothing_is_clamped():
    schedule = DistillConfig().schedule()
    sample, timesteps = 0.4 * noise(3, 3, 8, 8), torch.tensor([999, 499, 31])
    v = noise(3, 3, 8, 8, seed=1)
    target = guidance_target(levels(schedule), lambda *_: v, sample, timesteps)
    inside = []
    for i, t in enumerate(timesteps.tolist()):
        signal, sigma = schedule.alpha_cumprod(t) ** 0.5, (1 - schedule.alpha_cumprod(t)) ** 0.5
        shown, predicted = signal * sample[i] - sigma * target[i], signal * sample[i] - sigma * v[i]
        torch.testing.assert_close(shown, predicted.clamp(-1, 1), rtol=1e-5, atol=1e-5)
        inside.append(predicted.abs() < 1)
    inside = torch.stack(inside)
    assert 0 < inside.float().mean() < 1
    torch.testing.assert_close(target[inside], v[inside], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [8, 4])
def test_a_stage_trains_at_the_timesteps_that_its_student_visits_and_at_no_others(data, tiny_digit_model, steps):
    config = dataclasses.replace(TINY, batch_size=16, network=tiny_digit_model.network.config)
    stage, seen = Stage(tiny_digit_model.network, steps, config), []

    def network(sample, timesteps, digits, datasets):
        seen.extend(timesteps.tolist())
        return sample

    for step in range(3):
        stage.loss(network, BatchSource(data, config, "cpu").batch(step))
    visited = [t for t, _ in timestep_pairs("trailing", steps)]
    assert sorted(seen) == sorted(visited * (48 // steps)), "all equally often"
    assert list(stage.student(tiny_digit_model.network).distilled.timesteps) == visited


@pytest.mark.parametrize("steps", [8, 4])
def test_the_loss_is_that_of_the_clean_image_weighted_by_the_truncated_snr(data, tiny_digit_model, steps):
    config = dataclasses.replace(TINY, network=tiny_digit_model.network.config)
    batch, schedule = BatchSource(data, config, "cpu").batch(0), config.schedule()
    abar, total = levels(schedule), 0.0

    def plain(sample, timesteps):
        return tiny_digit_model.network(sample, timesteps, batch.digits, batch.datasets)

    t, u, s = visits(steps)[batch.timesteps * steps // 1000].unbind(1)
    sample = schedule.add_noise(batch.images_pm1, batch.noise, t)
    if steps == 8:
        network = tiny_digit_model.network
        target = guidance_target(abar, lambda x, t: guided_v(network, batch, 2.0, (0, 1000), x, t), sample, t)
    else:
        target = halving_target(abar, plain, sample, t, u, s)
    for i, timestep in enumerate(t.tolist()):
        a = schedule.alpha_cumprod(timestep)
        images = [a**0.5 * sample[i].double() - (1 - a) ** 0.5 * v.double() for v in (target[i], 0.3 * sample[i])]
        total += max(a / (1 - a), 1) * float((images[0] - images[1]).square().mean()) / len(t)
    found = Stage(tiny_digit_model.network, steps, config).loss(lambda x, *_: 0.3 * x, batch)
    assert float(found) == pytest.approx(total, rel=1e-4)


# --- the recipe and the run ---


def test_each_stage_halves_the_steps():
    assert DistillConfig().stages == (16, 8, 4)
    assert dataclasses.replace(TINY, first_steps=4).stages == (4,)
    for wrong in ({"first_steps": 33}, {"first_steps": 24, "num_inference_steps": 5}, {"num_inference_steps": 0}):
        with pytest.raises(ValueError, match="doubled a number of times"):
            dataclasses.replace(TINY, **wrong)
    with pytest.raises(ValueError, match="guidance_scale must be a finite number"):
        dataclasses.replace(TINY, guidance_scale=float("nan"))


def test_the_bundled_recipe_has_the_images_of_the_teachers():
    ours, teachers = distill_preset("bundled", 1), preset("bundled", 1)
    for name in ("house_numbers", "house_number_look", "drawn_share", "augment_svhn", "balanced", "batch_size"):
        assert getattr(ours, name) == getattr(teachers, name)
    assert distill_preset("default", 1).house_numbers == 0
    with pytest.raises(ValueError, match="'fast'"):
        distill_preset("fast", 1)


def test_a_student_comes_nearer_to_what_its_teacher_draws(data, tiny_digit_model, tmp_path):
    config = dataclasses.replace(TINY, num_steps=25, first_steps=4, network=tiny_digit_model.network.config)
    distill_digits(data, tiny_digit_model, config, tmp_path, device="cpu")
    stage = Stage(tiny_digit_model.network, 4, config)
    batch = BatchSource(data, dataclasses.replace(config, batch_size=100, seed=1), "cpu").batch(0)
    student = load_digit_model(tmp_path / "model.safetensors")
    before, after = (float(stage.loss(model.network, batch)) for model in (tiny_digit_model, student))
    assert after < 0.95 * before


class StoppedError(Exception):
    pass


def stopping(at):
    """A watch that stops in the second stage."""

    def watch_stage(folder):
        def watch(progress):
            if (folder.name, progress.step) == at:
                raise StoppedError

        return watch

    return watch_stage


def same_tensors(a, b):
    a, b = load_file(a), load_file(b)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_resumed_distillation_ends_with_the_same_weights_bit_for_bit(data, tiny_digit_model, tmp_path):
    options = {"device": "cpu", "report_every": 1, "save_every": 2}
    whole = distill_digits(data, tiny_digit_model, TINY, tmp_path / "whole", **options)
    with pytest.raises(StoppedError):
        distill_digits(
            data, tiny_digit_model, TINY, tmp_path / "parts", watch_stage=stopping(("4_steps", 3)), **options
        )
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    seen = []

    def watch_stage(folder):
        return lambda progress: seen.append((folder.name, progress.step))

    resumed = distill_digits(
        data, tiny_digit_model, TINY, tmp_path / "parts", resume=True, watch_stage=watch_stage, **options
    )
    assert seen == [("4_steps", 3), ("4_steps", 4)]
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
    assert same_tensors(tmp_path / "whole" / "model.safetensors", tmp_path / "parts" / "model.safetensors")
    assert not same_tensors(
        tmp_path / "whole" / "model.safetensors", tmp_path / "whole" / "8_steps" / "model.safetensors"
    )


def test_another_teacher_recipe_or_run_is_refused(data, tiny_digit_model, student, tmp_path):
    distill_digits(data, tiny_digit_model, TINY, tmp_path, device="cpu")
    with pytest.raises(InputError, match="belongs to an earlier run"):
        distill_digits(data, tiny_digit_model, TINY, tmp_path, device="cpu")
    with pytest.raises(InputError, match=r"another recipe \(guidance_scale\)"):
        changed = dataclasses.replace(TINY, guidance_scale=3.0)
        distill_digits(data, tiny_digit_model, changed, tmp_path, device="cpu", resume=True)
    tiny_digit_model.network.out.bias.add_(1)
    with pytest.raises(InputError, match="was trained on other teacher"):
        distill_digits(data, tiny_digit_model, TINY, tmp_path, device="cpu", resume=True)
    for teacher, sentence in (
        (student, "the teacher is distilled itself"),
        (dataclasses.replace(tiny_digit_model, prediction_type="epsilon"), "the teacher predicts epsilon"),
    ):
        with pytest.raises(InputError, match=sentence):
            distill_digits(data, teacher, TINY, tmp_path / "new", device="cpu")


def test_tensorboard_shows_each_stage(data, tiny_digit_model, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr("hw2.digits.recognizer.TRAINING_STEPS", 2)
    monkeypatch.setattr("hw2.digits.watch.COLUMNS", 10)

    def watch_stage(folder):
        return Watcher(folder, TINY, "cpu", 4, tmp_path / "recognizer.safetensors")

    losses = distill_digits(
        data, tiny_digit_model, TINY, tmp_path, device="cpu", report_every=2, watch_stage=watch_stage
    )
    for name, stage in zip(("8_steps", "4_steps"), losses, strict=True):
        events = EventAccumulator(str(tmp_path / name / "tensorboard")).Reload()
        assert [e.value for e in events.Scalars("loss")] == pytest.approx([float(p.mean()) for p in stage.split(2)])
        assert [e.step for e in events.Scalars("accuracy/svhn")] == [4]
    assert (tmp_path / "recognizer.safetensors").exists()


# --- the student as a checkpoint ---


def test_a_distilled_model_is_drawn_as_it_was_made_for(student, tmp_path):
    save_digit_model(student, tmp_path / "m.safetensors")
    save_digit_folder(student, tmp_path / "folder")
    digits, datasets = labels_of(NAMES)
    sample = randn((3, 3, 28, 28), image_generators(0, [name.removesuffix(".png") for name in NAMES]))

    def network(sample, timesteps):
        return student.network(sample, timesteps[:1], digits, datasets)

    pairs = [(999, 749), (749, 499), (499, 249), (249, -1)]
    step = ddim(prediction_type="v_prediction", clip_sample=1.0)
    expected = draw(step, network, sample, student.schedule, pairs)
    for loaded in (load_digit_model(tmp_path / "m.safetensors"), load_digit_folder(tmp_path / "folder")):
        assert loaded.distilled == student.distilled
        drawing = DigitSampler(loaded)
        assert (drawing.sampler, drawing.num_inference_steps, drawing.guidance_scale) == ("ddim", 4, 1.0)
        drawn = torch.stack([digit for _, digit in drawing.sample(NAMES)])
        torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4)
        again = DigitSampler(loaded, "ddim", 4, 1.0, batch_size=1)
        assert torch.equal(drawn, torch.stack([digit for _, digit in again.sample(NAMES)]))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"sampler": "dpm++"}, "sampler is dpm"),
        ({"num_inference_steps": 15}, "num_inference_steps is 15"),
        ({"guidance_scale": 3.0}, "guidance_scale is 3.0"),
        ({"guidance_interval": (0, 500)}, "guidance_interval is"),
    ],
)
def test_a_distilled_model_is_drawn_in_no_other_way(student, asked, found):
    with pytest.raises(InputError, match=f"distilled for 4 steps of ddim with guidance inside, and {found}"):
        DigitSampler(student, **asked)


@pytest.mark.parametrize(
    "wrong",
    [
        {"timesteps": []},
        {"timesteps": 4},
        {"timesteps": [499, 999]},
        {"timesteps": [1000]},
        {"timesteps": [999.0]},
        {"timesteps": [999, -1]},
        {"guidance_scale": "3"},
        {"guidance_scale": float("inf")},
        {"more": 1},
        None,
    ],
)
def test_a_description_that_no_student_has_is_refused(student, tmp_path, wrong):
    path = tmp_path / "m.safetensors"
    save_digit_model(student, path)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        config = json.loads(file.metadata()["config"])
    config["distilled"] = None if wrong is None else {**config["distilled"], **wrong}
    save_file(load_file(path), path, metadata={"config": json.dumps(config)})
    with pytest.raises(InputError, match="describes no digit model"):
        load_digit_model(path)


# --- as a person runs it ---


def test_a_person_distills_a_model_and_draws_with_it(tmp_path, digits_folder, tiny_digit_model):
    teacher, out = tmp_path / "teacher.safetensors", tmp_path / "run"
    save_digit_model(tiny_digit_model, teacher)
    options = ["--checkpoint", teacher, "--data", digits_folder, "--cache", tmp_path / "cache", "--device", "cpu"]
    recipe = [
        "--num-steps",
        2,
        "--batch-size",
        4,
        "--first-steps",
        4,
        "--num-inference-steps",
        2,
        "--pictures-every",
        0,
    ]
    command = ["digits", "distill", *options, *recipe, "--output", out]
    run = run_here(*command, "--guidance-scale", 2, "--guidance-interval", 0, 900)
    assert run.returncode == 0, run.stderr
    assert load_digit_model(out / "model.safetensors").distilled == Distilled((999, 499), 2.0, (0, 900))
    again = run_here(*command)
    assert again.returncode == 2
    assert "belongs to an earlier run; resume it, or choose another output (--resume or --output)" in again.stderr
    student = ["--checkpoint", out / "model.safetensors", "--device", "cpu"]
    drawn = run_here("digits", "sample", *student, "--per-digit", 1, "--output", tmp_path / "drawn")
    assert drawn.returncode == 0, drawn.stderr
    assert " 40 of 40 " in drawn.stderr, "two steps of each of 20 images"
    refused = run_here("digits", "sample", *student, "--num-inference-steps", 9, "--output", tmp_path / "no")
    assert refused.returncode == 2
    assert (
        "and num_inference_steps is 9; use its own settings, or the model that it was distilled from" in refused.stderr
    )
    assert "(--checkpoint)" in refused.stderr
    assert run_here("digits", "reverse", *student, "--output", tmp_path / "r.png").returncode == 2


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--first-steps", 10), "first_steps must be num_inference_steps doubled"),
        (("--guidance-scale", "inf"), "--guidance-scale is inf"),
        (("--guidance-interval", 5, 2), "--guidance-interval is 5 2"),
        (("--checkpoint", "no.safetensors"), "no.safetensors is not a file"),
        (("--resume",), "nothing to resume"),
    ],
)
def test_a_distillation_that_cannot_be_done_is_refused(tmp_path, digits_folder, option, sentence):
    arguments = [
        "--data",
        digits_folder,
        "--output",
        tmp_path / "run",
        "--cache",
        tmp_path / "cache",
        "--device",
        "cpu",
    ]
    run = run_here("digits", "distill", *arguments, *option)
    assert run.returncode == 2, run.stderr
    assert sentence in run.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()
