"""Training: each formula against its twin, each option against its absence, and the same weights after any stop."""

import dataclasses
import json
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import chisquare

from hw2.digits.checkpoint import load_digit_model
from hw2.digits.data import DigitImages
from hw2.digits.network import NULL_DATASET, NULL_DIGIT
from hw2.digits.recognizer import Recognizer, load_or_train_recognizer, train_recognizer
from hw2.digits.train import (
    BatchSource,
    TrainConfig,
    diffusion_loss,
    min_snr_weight,
    preset,
    train_digits,
)
from hw2.digits.watch import Watcher
from hw2.errors import InputError
from hw2.training import Schedule, Training, learning_rate_factor
from tests.commands import Stop, run_in_two_processes, start_command
from tests.hw2.in_process import run_here
from tests.models.tiny_digits import TINY_DIGITS

TINY = TrainConfig(
    num_steps=6, batch_size=8, warmup_steps=2, mixed_precision="no", network=TINY_DIGITS, learning_rate=1e-2
)


def tensors_equal(a, b):
    a, b = load_file(a), load_file(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- what a step trains on ---


def test_a_batch_depends_on_seed_and_step_alone(data):
    source = BatchSource(data, dataclasses.replace(TINY, augment_svhn=True), "cpu")
    other = BatchSource(data, dataclasses.replace(TINY, augment_svhn=True), "cpu")
    source.batch(1)
    a, b = source.batch(7), other.batch(7)
    for f in dataclasses.fields(a):
        assert torch.equal(getattr(a, f.name), getattr(b, f.name))
    assert not torch.equal(a.noise, source.batch(8).noise)
    reseeded = BatchSource(data, dataclasses.replace(TINY, augment_svhn=True, seed=1), "cpu").batch(7)
    assert not torch.equal(a.noise, reseeded.noise)


def test_images_keep_their_labels_on_the_way_into_a_batch(data):
    config = dataclasses.replace(TINY, batch_size=64, digit_dropout=0.0, dataset_dropout=0.0)
    batch = BatchSource(data, config, "cpu").batch(0)
    colours = ((batch.images_pm1 + 1) * 127.5).round()
    assert torch.equal(colours[:, 0, 0, 0].long(), batch.digits)
    assert torch.equal(colours[:, 1, 0, 0].long(), batch.datasets)


def test_balanced_batches_show_rare_digits_as_often(data):
    keep = torch.cat([torch.arange(1), torch.arange(1, 60)[data.digits[1:] != 0], torch.tensor([30])])
    scarce = DigitImages(data.images_u8[keep], data.digits[keep], data.datasets[keep])
    config = dataclasses.replace(TINY, batch_size=4000, digit_dropout=0.0, dataset_dropout=0.0)
    balanced = BatchSource(scarce, config, "cpu").batch(0)
    cells = torch.bincount(balanced.datasets * 10 + balanced.digits, minlength=20)
    assert chisquare(cells).pvalue > 1e-4
    plain = BatchSource(scarce, dataclasses.replace(config, balanced=False), "cpu").batch(0)
    expected = torch.bincount(scarce.datasets * 10 + scarce.digits, minlength=20).double() / len(scarce) * 4000
    assert chisquare(torch.bincount(plain.datasets * 10 + plain.digits, minlength=20), expected).pvalue > 1e-4


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_a_share_of_the_house_numbers_are_drawn_ones(data, share):
    config = dataclasses.replace(
        TINY, batch_size=4000, house_numbers=20, drawn_share=share, digit_dropout=0.0, dataset_dropout=0.0
    )
    assert TrainConfig().drawn_share == 0.5
    batch = BatchSource(data, config, "cpu").batch(0)
    svhn = batch.images_pm1[batch.datasets == 1]
    real = ((svhn[:, 1] + 1) * 127.5).round().flatten(1).eq(1).all(dim=1)  # green says SVHN everywhere
    assert 0.95 - share < real.float().mean() < 1.05 - share
    assert 0.45 < (batch.datasets == 1).float().mean() < 0.55


def test_the_look_of_the_house_numbers_changes_the_drawn_ones_alone(data):
    config = dataclasses.replace(TINY, batch_size=200, house_numbers=20)
    plain, wide = (
        BatchSource(data, dataclasses.replace(config, house_number_look=look), "cpu").batch(0)
        for look in ("plain", "wide")
    )
    same = (plain.images_pm1 == wide.images_pm1).flatten(1).all(dim=1).float().mean()
    assert 0.65 < same < 0.85
    assert torch.equal(plain.digits, wide.digits)


def test_labels_are_dropped_independently(data):
    config = dataclasses.replace(TINY, batch_size=4000, digit_dropout=0.3, dataset_dropout=0.1)
    batch = BatchSource(data, config, "cpu").batch(0)
    digit, dataset = batch.digits == NULL_DIGIT, batch.datasets == NULL_DATASET
    counts = [(digit & dataset).sum(), (digit & ~dataset).sum(), (~digit & dataset).sum(), (~digit & ~dataset).sum()]
    assert (
        chisquare(
            torch.stack(counts).double(), torch.tensor([0.03, 0.27, 0.07, 0.63], dtype=torch.float64) * 4000
        ).pvalue
        > 1e-4
    )


def test_timesteps_cover_the_schedule_evenly_and_noise_is_normal(data):
    batch = BatchSource(data, dataclasses.replace(TINY, batch_size=200), "cpu").batch(0)
    assert (batch.timesteps.sort().values // 5).tolist() == list(range(200))
    assert batch.timesteps.tolist() != sorted(batch.timesteps.tolist())
    assert batch.noise.std() == pytest.approx(1, abs=0.01)


def test_shares_make_up_the_batch(data):
    batch = BatchSource(data, TINY, "cpu").batch(3)
    shares = [batch.part(slice(rank, None, 2)) for rank in range(2)]
    assert sorted(torch.cat([s.timesteps for s in shares]).tolist()) == sorted(batch.timesteps.tolist())
    assert torch.equal(shares[1].noise[0], batch.noise[1])


def test_augmentation_touches_svhn_only(data):
    config = dataclasses.replace(TINY, batch_size=64, dataset_dropout=0.0)
    plain = BatchSource(data, config, "cpu").batch(0)
    changed = BatchSource(data, dataclasses.replace(config, augment_svhn=True), "cpu").batch(0)
    same = (plain.images_pm1 == changed.images_pm1).flatten(1).all(dim=1)
    assert same[plain.datasets == 0].all()
    assert not same[plain.datasets == 1].any()


def test_a_data_set_without_some_digit_is_refused(data, tmp_path):
    keep = (data.digits != 4) | (data.datasets != 1)
    lacking = DigitImages(data.images_u8[keep], data.digits[keep], data.datasets[keep])
    with pytest.raises(InputError, match="has no 4 in svhn"):
        BatchSource(lacking, TINY, "cpu")


# --- the loss ---


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_the_loss_equals_its_formula_written_out(data, prediction_type, gamma):
    config = dataclasses.replace(TINY, prediction_type=prediction_type, min_snr_gamma=gamma)
    batch, schedule = BatchSource(data, config, "cpu").batch(0), config.schedule()

    def network(noisy, timesteps, digits, datasets):
        return 0.3 * noisy + 0.1

    total = 0.0
    for i in range(config.batch_size):
        abar = schedule.alpha_cumprod(int(batch.timesteps[i]))
        x0, noise = batch.images_pm1[i].double(), batch.noise[i].double()
        noisy = abar**0.5 * x0 + (1 - abar) ** 0.5 * noise
        target = noise if prediction_type == "epsilon" else abar**0.5 * noise - (1 - abar) ** 0.5 * x0
        error = float(((0.3 * noisy + 0.1 - target) ** 2).mean())
        if gamma is not None:
            snr = abar / (1 - abar)
            error *= min(snr, gamma) / (snr if prediction_type == "epsilon" else snr + 1)
        total += error / config.batch_size
    assert float(diffusion_loss(network, batch, schedule, config)) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_weighs_the_clean_images_error_by_at_most_gamma(prediction_type):
    # An error of size e in x0 is one of e * sqrt(snr) in epsilon and e * sqrt(snr + 1) in v.
    abar = torch.linspace(0.001, 0.999, 50, dtype=torch.float64)
    snr = abar / (1 - abar)
    size = snr if prediction_type == "epsilon" else snr + 1
    torch.testing.assert_close(min_snr_weight(abar, 5.0, prediction_type) * size, snr.clamp(max=5.0))


def test_the_learning_rate_goes_up_stays_and_comes_down():
    config = dataclasses.replace(TINY, num_steps=100, warmup_steps=10, decay_fraction=0.25)
    rates = [learning_rate_factor(step, config) for step in range(100)]
    assert rates[0] == 0.1
    assert rates[9:76] == [1.0] * 67
    assert rates[76:] == pytest.approx([(100 - step) / 25 for step in range(76, 100)])


def test_presets_are_what_they_say():
    report = preset("report", images=1000)
    assert (report.learning_rate, report.batch_size, report.prediction_type) == (1e-3, 64, "epsilon")
    assert report.num_steps == 1000 * 16
    assert (report.min_snr_gamma, report.balanced, learning_rate_factor(15_999, report)) == (None, False, 1.0)
    assert preset("bundled", 1).house_numbers > 0
    assert preset("default", 1).house_numbers == 0
    with pytest.raises(ValueError, match="'fast'"):
        preset("fast", 1)


# --- the run ---


def test_training_learns(data, tmp_path):
    config = dataclasses.replace(TINY, num_steps=40, batch_size=16)
    losses = train_digits(data, config, tmp_path / "run", device="cpu")
    assert losses.shape == (40,)
    assert losses[-10:].mean() < 0.9 * losses[:10].mean()
    model = load_digit_model(tmp_path / "run" / "model.safetensors")
    assert (model.prediction_type, model.beta_schedule) == ("v_prediction", "cosine")


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_training_takes_deterministic_operations_if_asked(data, tmp_path, deterministic):
    seen = []
    options = {"device": "cpu", "report_every": 1, "deterministic": deterministic}
    config = dataclasses.replace(TINY, num_steps=2)
    train_digits(
        data,
        config,
        tmp_path / "run",
        **options,
        watch=lambda _: seen.append(torch.are_deterministic_algorithms_enabled()),
    )
    assert seen == [deterministic] * 2


def test_a_step_in_parts_is_the_step_in_one(data, tmp_path):
    """Gradients of the parts add up to those of the whole: losses and weights differ by rounding alone."""
    config = dataclasses.replace(TINY, num_steps=3, batch_size=16)
    whole = train_digits(data, config, tmp_path / "whole", device="cpu")
    in_parts = train_digits(data, config, tmp_path / "parts", device="cpu", accumulation=4)
    torch.testing.assert_close(in_parts, whole, rtol=1e-4, atol=1e-5)
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-2, atol=1e-4)


def test_a_batch_that_cannot_be_divided_into_the_parts_is_refused(data, tmp_path):
    with pytest.raises(
        InputError, match="the batch size is 8; expected a multiple of 3, for 1 process of 3 parts each"
    ):
        train_digits(data, TINY, tmp_path / "run", device="cpu", accumulation=3)


def test_float16_learns_what_float32_learns(data, tmp_path):
    """Gradients are scaled before the backward pass and unscaled before they are clipped: the weights differ little."""
    trained = {}
    for precision in ("no", "fp16"):
        config = dataclasses.replace(TINY, num_steps=12, mixed_precision=precision)
        trained[precision] = train_digits(data, config, tmp_path / precision, device="cpu")
    torch.testing.assert_close(trained["fp16"], trained["no"], rtol=0.02, atol=0.02)
    assert not torch.equal(trained["fp16"], trained["no"])
    scaler = torch.load(tmp_path / "fp16" / "checkpoint.pt", weights_only=True)["scaler"]
    assert scaler["_growth_tracker"] > 0  # it has counted the steps without an overflow


def test_a_step_whose_gradients_overflow_changes_no_weight(data, tmp_path, monkeypatch):
    """The scale is then halved. Without the scaler's own step, the weights would become NaN."""
    config = dataclasses.replace(TINY, num_steps=1, mixed_precision="fp16", warmup_steps=0, decay_fraction=0.0)
    monkeypatch.setattr("hw2.digits.train.diffusion_loss", lambda network, *_: infinite_gradient(network))
    train_digits(data, config, tmp_path / "run", device="cpu")
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert saved["scaler"]["scale"] == 2.0**15
    assert all(bool(value.isfinite().all()) for value in saved["network"].values())


def infinite_gradient(network):
    """A loss whose gradient, 1e36, is finite, but not when it is scaled by 65536."""
    return sum((p * 1e36).sum() for p in network.parameters())


def test_the_kept_model_is_the_average_and_not_the_last_weights(data, tmp_path):
    train_digits(data, dataclasses.replace(TINY, num_steps=2), tmp_path / "run", device="cpu")
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    first = dataclasses.replace(TINY, num_steps=1)
    train_digits(data, dataclasses.replace(first, warmup_steps=2, decay_fraction=0.0), tmp_path / "one", device="cpu")
    one = torch.load(tmp_path / "one" / "checkpoint.pt", weights_only=True)
    name = "out.bias"
    # after step 2 the decay is 2/11: the average of the one before and the new weights
    expected = one["ema"][name] * (2 / 11) + saved["network"][name] * (9 / 11)
    torch.testing.assert_close(saved["ema"][name], expected)
    assert torch.equal(load_file(tmp_path / "run" / "model.safetensors")[name], saved["ema"][name])


@pytest.mark.parametrize("precision", ["no", "fp16"])
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(data, tmp_path, precision):
    config = dataclasses.replace(TINY, mixed_precision=precision, augment_svhn=True, house_numbers=10)
    whole = train_digits(data, config, tmp_path / "whole", device="cpu")

    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.step == 5:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_digits(data, config, tmp_path / "parts", device="cpu", save_every=2, report_every=1, watch=stop)
    seen = []
    resumed = train_digits(
        data, config, tmp_path / "parts", device="cpu", resume=True, report_every=1, watch=lambda p: seen.append(p.step)
    )
    assert seen == [5, 6]  # it went on from step 4
    assert torch.equal(whole, resumed)
    assert tensors_equal(tmp_path / "whole" / "model.safetensors", tmp_path / "parts" / "model.safetensors")


def test_a_longer_run_goes_on_from_a_shorter_one_before_its_end_begins(data, tmp_path):
    short, long = (dataclasses.replace(TINY, num_steps=n, decay_fraction=0.5) for n in (8, 12))

    class StoppedError(Exception):
        pass

    def stop(progress):
        raise StoppedError

    with pytest.raises(StoppedError):
        train_digits(data, short, tmp_path / "run", device="cpu", save_every=4, report_every=5, watch=stop)
    resumed = train_digits(data, long, tmp_path / "run", device="cpu", resume=True)
    assert torch.equal(resumed, train_digits(data, long, tmp_path / "long", device="cpu"))
    with pytest.raises(InputError, match="num_steps, whose decay has begun"):
        train_digits(data, dataclasses.replace(long, num_steps=20), tmp_path / "run", device="cpu", resume=True)


ONE_STEP = dataclasses.replace(TINY, num_steps=1, mixed_precision="fp16")


@pytest.fixture(scope="module")
def finished_checkpoint(data, tmp_path_factory):
    """The checkpoint.pt of ONE_STEP."""
    folder = tmp_path_factory.mktemp("finished")
    train_digits(data, ONE_STEP, folder, device="cpu")
    return folder / "checkpoint.pt"


@pytest.fixture
def run_folder(finished_checkpoint, tmp_path):
    """A folder of ONE_STEP, for this test alone."""
    (tmp_path / "run").mkdir()
    shutil.copy(finished_checkpoint, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("change", [{"seed": 1}, {"learning_rate": 0.5}, {"batch_size": 4}, {"min_snr_gamma": 5.0}])
def test_resuming_with_another_recipe_is_refused(data, run_folder, change):
    with pytest.raises(InputError, match=f"another recipe \\({next(iter(change))}\\)"):
        train_digits(data, dataclasses.replace(ONE_STEP, **change), run_folder, device="cpu", resume=True)


def test_an_earlier_run_is_never_overwritten_and_a_missing_one_not_resumed(data, tmp_path):
    with pytest.raises(InputError, match="nothing to resume"):
        train_digits(data, TINY, tmp_path / "run", device="cpu", resume=True)
    train_digits(data, TINY, tmp_path / "run", device="cpu")
    with pytest.raises(InputError, match="belongs to an earlier run"):
        train_digits(data, TINY, tmp_path / "run", device="cpu")
    other = DigitImages(255 - data.images_u8, data.digits, data.datasets)
    with pytest.raises(InputError, match="was trained on other data"):
        train_digits(other, TINY, tmp_path / "run", device="cpu", resume=True)
    torch.save({"network": {}}, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(InputError, match="is not a checkpoint"):
        train_digits(data, TINY, tmp_path / "run", device="cpu", resume=True)


def damaged(saved, key, value):
    """A checkpoint with one value replaced. key: names of nested dicts, separated by dots."""
    *outer, last = key.split(".")
    for name in outer:
        saved = saved[int(name) if name.isdigit() else name]
    saved[int(last) if last.isdigit() else last] = value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", "[" * 100_000),
        ("config", '{"num_steps": "many"}'),
        ("config", "{}"),
        ("done", -1),
        ("done", torch.ones(3)),
        ("losses", torch.ones(5)),
        ("losses", None),
        ("network", {}),
        ("network", [1]),
        ("ema", {}),
        ("ema.out.bias", None),
        ("optimizer", {}),
        ("optimizer.state", {0: 1}),
        ("optimizer.state.0", {"step": torch.ones(()), "exp_avg": torch.ones(()), "exp_avg_sq": torch.ones(())}),
        ("optimizer.param_groups.0.betas", "ab"),
        ("optimizer.param_groups.0.eps", None),
        ("scaler", 3),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_sentence(data, run_folder, key, value):
    path = run_folder / "checkpoint.pt"
    saved = torch.load(path, weights_only=True)
    if key.startswith("ema."):
        saved["ema"][key.removeprefix("ema.")] = torch.ones(7, 7)
    else:
        damaged(saved, key, value)
    torch.save(saved, path)
    with pytest.raises(InputError, match="is not a checkpoint of `hw2 digits train`"):
        train_digits(data, ONE_STEP, run_folder, device="cpu", resume=True)


def test_a_checkpoint_that_claims_endless_steps_is_refused_at_once(data, run_folder):
    path = run_folder / "checkpoint.pt"
    saved = torch.load(path, weights_only=True)
    torch.save({**saved, "done": 2**60}, path)
    with pytest.raises(InputError, match=r"another recipe \(.*\); resume with the same options"):
        train_digits(data, ONE_STEP, run_folder, device="cpu", resume=True)


def command(folder, output, *more):
    recipe = ["--preset", "bundled", "--num-steps", 8, "--batch-size", 8, "--house-numbers", 20, "--save-every", 3]
    options = ["--data", folder, "--output", output, "--device", "cpu", "--cache", output.parent / "cache"]
    return ["digits", "train", *options, *recipe, "--pictures-every", 0, "--mixed-precision", "no", *more]


def finished(arguments):
    run = run_here(*arguments)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_killed_training_goes_on_to_the_same_model(digits_folder, tmp_path, tiny_recipes, how):
    finished(command(digits_folder, tmp_path / "whole"))
    arguments = command(digits_folder, tmp_path / "killed")
    run = start_command("tests.models.tiny_recipes", *arguments, stop=Stop("checkpoint.pt", how)).ended()
    assert run.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), run.stderr
    assert torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)["done"] == 3
    finished([*arguments, "--resume"])
    assert tensors_equal(tmp_path / "whole" / "model.safetensors", tmp_path / "killed" / "model.safetensors")


def test_two_processes_have_the_loss_curve_of_one_also_if_each_divides_its_share(digits_folder, tmp_path, tiny_recipes):
    finished(command(digits_folder, tmp_path / "one"))
    in_two = command(digits_folder, tmp_path / "two", "--accumulation", 2)
    run = run_in_two_processes("tests.models.tiny_recipes", *in_two)
    assert run.returncode == 0, run.stderr
    one, two = (torch.load(tmp_path / n / "checkpoint.pt", weights_only=True)["losses"] for n in ("one", "two"))
    torch.testing.assert_close(one, two, rtol=1e-3, atol=0)
    assert one.std() > 0.01


def test_a_batch_that_two_processes_cannot_halve_is_refused():
    config, two = dataclasses.replace(TINY, batch_size=3), SimpleNamespace(num_processes=2)
    with pytest.raises(InputError, match="the batch size is 3; expected a multiple of 2, for 2 processes"):
        Training(lambda: None, config, None, two, Schedule())


@pytest.mark.long
def test_two_processes_refuse_a_batch_that_they_cannot_halve(digits_folder, tmp_path):
    run = run_in_two_processes("hw2", *command(digits_folder, tmp_path / "run", "--batch-size", 3))
    assert run.returncode != 0
    assert "the batch size is 3; expected a multiple of 2, for 2 processes" in run.stderr
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


# --- what a person sees of it ---


def test_the_recognizer_learns_and_is_kept(data, tmp_path):
    striped = data.images_u8 // 8  # with stripes whose width tells the digit
    striped += ((torch.arange(28) % (data.digits[:, None] + 2) < data.digits[:, None] / 2 + 1) * 200)[:, None, None]
    config = dataclasses.replace(TINY, batch_size=20)
    source = BatchSource(dataclasses.replace(data, images_u8=striped), config, "cpu")
    trained = train_recognizer(source, config, "cpu", steps=20)
    images_pm1 = striped.float() / 127.5 - 1
    assert trained.accuracy(images_pm1, data.digits) > 0.5
    assert trained.accuracy(images_pm1, (data.digits + 1) % 10) < 0.3
    kept = load_or_train_recognizer(tmp_path / "r.safetensors", source, config, "cpu", steps=2)
    again = load_or_train_recognizer(tmp_path / "r.safetensors", source, config, "cpu", steps=0)
    assert torch.equal(kept(images_pm1), again(images_pm1))
    assert isinstance(again, Recognizer)


def test_tensorboard_shows_curves_pictures_and_accuracy(data, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr("hw2.digits.recognizer.TRAINING_STEPS", 2)
    monkeypatch.setattr("hw2.digits.watch.COLUMNS", 10)
    output = tmp_path / "run"
    watch = Watcher(output, TINY, "cpu", pictures_every=4)
    train_digits(data, TINY, output, device="cpu", report_every=2, watch=watch)
    events = EventAccumulator(str(output / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("loss")] == [2, 4, 6]
    losses = torch.load(output / "checkpoint.pt", weights_only=True)["losses"]
    assert [e.value for e in events.Scalars("loss")] == pytest.approx([float(p.mean()) for p in losses.split(2)])
    assert [e.value for e in events.Scalars("learning rate")][:2] == [pytest.approx(1e-2)] * 2
    for name in ("gradient norm", "images per second"):
        assert all(e.value > 0 for e in events.Scalars(name))
    for dataset in ("mnistm", "svhn"):
        assert [e.step for e in events.Scalars(f"accuracy/{dataset}")] == [4]
        (picture,) = events.Images(f"digits/{dataset}")
        assert (picture.width, picture.height) == (280, 280)
    assert json.dumps(sorted(p.name for p in output.iterdir())) == json.dumps(
        ["checkpoint.pt", "model.safetensors", "recognizer.safetensors", "tensorboard"]
    )
