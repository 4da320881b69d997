from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hw2.diffusion.samplers import dpm_solver_pp_2m, randn, walk
from hw2.diffusion.schedule import timestep_pairs
from hw2.diffusion.seeding import image_generators
from hw2.digits.checkpoint import DigitModel, load_digit_model, save_digit_model
from hw2.digits.figures import REVERSE_STEPS, digit_grid_png, frames, reverse_png
from hw2.digits.network import NULL_DIGIT, DigitUNet
from hw2.digits.recognizer import Recognizer
from hw2.digits.sample import READ, TRIES, DigitSampler, digit_to_u8, guided, labels_of, official_names
from hw2.errors import InputError
from tests.hw2.picture_cells import cell, pixels_of
from tests.models.tiny_digits import TINY_DIGITS
from tests.walks import last_sample

NAMES = ["mnistm/0_001.png", "svhn/7_042.png", "svhn/9_050.png", "mnistm/3_002.png", "svhn/0_001.png"]


def test_the_official_names_are_those_of_the_slides():
    names = official_names()
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[-1]) == ("mnistm/0_001.png", "svhn/9_050.png")
    digits, datasets = labels_of(NAMES)
    assert digits.tolist() == [0, 7, 9, 3, 0]
    assert datasets.tolist() == [0, 1, 1, 0, 1]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_digit_does_not_depend_on_its_batch(tiny_digit_model, sampler, scale):
    def drawn(batch_size, names=NAMES):
        steps = {"sampler": sampler, "num_inference_steps": 3, "guidance_scale": scale}
        return dict(DigitSampler(tiny_digit_model, batch_size=batch_size, **steps).sample(names))

    together = drawn(5)
    for batch_size in (1, 2, 3):
        again = drawn(batch_size)
        assert all(torch.equal(together[name], again[name]) for name in NAMES)
    backwards = drawn(2, NAMES[::-1])
    assert all(torch.equal(together[name], backwards[name]) for name in NAMES)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_digit_of_the_bundled_model_does_not_depend_on_its_batch(bundled_digit_model, threads):
    def drawn(names, size):  # one step is guided, and one is not
        sampler = DigitSampler(model, num_inference_steps=2, batch_size=size, guidance_interval=(0, 700))
        return dict(sampler.sample(names))

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    model, names = load_digit_model(bundled_digit_model), official_names(2)[::2]
    together = drawn(names, 20)
    few = {size: drawn(names[:size], size) for size in (1, 2, 3)}
    torch.set_num_threads(before)
    for size, digits in few.items():
        assert len(digits) == size
        assert all(torch.equal(together[name], digits[name]) for name in digits), size


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"sampler": "ddim"},
        {"num_inference_steps": 5},
        {"guidance_scale": 1.0},
        {"guidance_interval": (0, 500)},
    ],
)
def test_every_option_changes_the_digits(tiny_digit_model, change):
    base = {"num_inference_steps": 6, "guidance_scale": 3.0}
    a = dict(DigitSampler(tiny_digit_model, **base).sample(NAMES))
    b = dict(DigitSampler(tiny_digit_model, **{**base, **change}).sample(NAMES))
    assert not any(torch.allclose(a[name], b[name]) for name in NAMES)


def test_only_ddpm_draws_fresh_noise(tiny_digit_model):
    for sampler in ("ddpm", "ddim", "dpm++"):
        drawing = DigitSampler(tiny_digit_model, sampler, num_inference_steps=4)
        generators = image_generators(0, ["mnistm/0_001"])
        before = generators[0].get_state()
        noise = drawing.noise(["mnistm/0_001.png"])
        assert torch.equal(noise, randn((1, 3, 28, 28), generators))
        assert not torch.equal(before, generators[0].get_state())
        first, second = (last_sample(drawing.states(["mnistm/0_001.png"])) for _ in range(2))
        assert torch.equal(first, second)


@settings(max_examples=20)
@given(st.floats(-2, 8))
@example(1.0)
def test_guidance_moves_away_from_any_digit_of_the_same_data_set(scale):
    calls = []

    class Recorder(DigitUNet):
        def forward(self, sample, timesteps, digits, datasets):
            calls.append((digits[:4].tolist(), datasets[:4].tolist(), len(timesteps), len(sample)))
            return sample * 0 + digits.reshape(-1, 1, 1, 1) + 100 * datasets.reshape(-1, 1, 1, 1)

    model = DigitModel(Recorder(TINY_DIGITS), "v_prediction", "cosine")
    network = guided(model, torch.tensor([3, 8]), torch.tensor([0, 1]), scale)
    output = network(torch.zeros(2, 3, 28, 28), torch.tensor([500, 500]))[:, 0, 0, 0]
    expected = [NULL_DIGIT + scale * (3 - NULL_DIGIT), 100 + NULL_DIGIT + scale * (8 - NULL_DIGIT)]
    np.testing.assert_allclose(output.numpy(), expected, rtol=1e-5, atol=1e-5)
    if scale != 1:
        assert calls == [([3, 8, NULL_DIGIT, NULL_DIGIT], [0, 1, 0, 1], 1, 4)]  # one call for both passes


@pytest.mark.parametrize(("timestep", "guidance"), [(99, False), (100, True), (699, True), (700, False)])
def test_outside_the_interval_the_conditional_prediction_stands_alone(tiny_digit_model, timestep, guidance):
    sample = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    digits, datasets, timesteps = torch.tensor([3, 8]), torch.tensor([0, 1]), torch.full((2,), timestep)
    output = guided(tiny_digit_model, digits, datasets, 4.0, (100, 700))(sample, timesteps)
    conditional = tiny_digit_model.network(sample, timesteps[:1], digits, datasets)
    assert torch.allclose(output, conditional, rtol=1e-4, atol=1e-5) != guidance


def test_sampling_is_a_plain_walk_of_the_solver(tiny_digit_model):
    drawing = DigitSampler(tiny_digit_model, num_inference_steps=7, guidance_scale=2.5, seed=4)
    digits, datasets = labels_of(NAMES)
    noise = randn((5, 3, 28, 28), image_generators(4, [n.removesuffix(".png") for n in NAMES]))

    def network(sample, timesteps):
        call = partial(tiny_digit_model.network, sample, timesteps)
        conditional, unconditional = call(digits, datasets), call(torch.full_like(digits, NULL_DIGIT), datasets)
        return unconditional + 2.5 * (conditional - unconditional)

    step = dpm_solver_pp_2m(prediction_type="v_prediction", clip_sample=1.0)
    expected = last_sample(walk(step, network, noise, tiny_digit_model.schedule, timestep_pairs("trailing", 7)))
    ours = torch.stack([digit for _, digit in drawing.sample(NAMES)])
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_overflow_is_reported_and_not_written(tiny_digit_model):
    tiny_digit_model.network.out.bias.fill_(torch.inf)
    with pytest.raises(InputError, match="came out as NaN or infinity"):
        list(DigitSampler(tiny_digit_model, num_inference_steps=3).sample(NAMES))


def test_pixels_are_clamped_and_rounded():
    digit = torch.tensor([-3.0, -1.0, 0.0, 0.5, 1.0, 2.0]).repeat(3, 28, 5)[:, :, :28]
    assert digit_to_u8(digit)[0, :6, 0].tolist() == [0, 0, 128, 191, 255, 255]
    assert digit_to_u8(digit).shape == (28, 28, 3)


# --- checkpoints ---


def test_a_saved_model_draws_the_same_digits(tiny_digit_model, tmp_path):
    save_digit_model(tiny_digit_model, tmp_path / "m.safetensors")
    loaded = load_digit_model(tmp_path / "m.safetensors")
    assert (loaded.prediction_type, loaded.beta_schedule) == ("v_prediction", "cosine")
    a, b = (dict(DigitSampler(m, num_inference_steps=3).sample(NAMES)) for m in (tiny_digit_model, loaded))
    assert all(torch.equal(a[name], b[name]) for name in NAMES)


@pytest.mark.parametrize("field", ["prediction_type", "beta_schedule"])
def test_what_a_model_predicts_changes_its_digits(tiny_digit_model, field):
    other = {"prediction_type": "epsilon", "beta_schedule": "linear"}[field]
    changed = DigitModel(**{**vars(tiny_digit_model), field: other})
    a, b = (dict(DigitSampler(m, num_inference_steps=3).sample(NAMES)) for m in (tiny_digit_model, changed))
    assert not torch.equal(a[NAMES[0]], b[NAMES[0]])


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (None, "there is none"),
        ({}, "'prediction_type'"),
        ({"prediction_type": "x0", "beta_schedule": "cosine", "network": {}}, "unknown prediction_type 'x0'"),
        ({"prediction_type": ["epsilon"], "beta_schedule": "cosine", "network": {}}, "unknown prediction_type"),
        (
            {"prediction_type": "epsilon", "beta_schedule": "cosine", "network": {"channels": [3]}},
            "got DigitUNetConfig",
        ),
        ({"prediction_type": "epsilon", "beta_schedule": "cosine", "network": 3}, "describes no digit model"),
    ],
)
def test_a_file_that_is_no_digit_model_is_refused(tmp_path, config, sentence):
    import json

    from safetensors.torch import save_file

    metadata = None if config is None else {"config": json.dumps(config)}
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", metadata=metadata)
    with pytest.raises(InputError, match=sentence):
        load_digit_model(tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="is not a file"):
        load_digit_model(tmp_path / "y.safetensors")


# --- pictures ---


def test_the_grid_shows_every_digit_in_its_place(tiny_digit_model):
    drawing = DigitSampler(tiny_digit_model, num_inference_steps=1)
    picture = pixels_of(digit_grid_png(drawing))
    places = {
        "mnistm/0_001.png": (0, 0),
        "mnistm/3_010.png": (3, 9),
        "svhn/0_001.png": (0, 11),
        "svhn/9_010.png": (9, 20),
    }
    for name, digit in drawing.sample(list(places)):
        np.testing.assert_array_equal(cell(picture, *places[name], 28), digit_to_u8(digit))


def test_the_reverse_process_goes_from_the_noise_to_the_image(tiny_digit_model):
    assert frames(REVERSE_STEPS) == (0, 200, 400, 600, 800, 1000), "as on the slides"
    drawing = DigitSampler(tiny_digit_model, "ddpm", num_inference_steps=10)
    names = ["mnistm/0_001.png", "svhn/0_001.png"]
    states = [drawing.noise(names), *(state.sample for state in drawing.states(names))]
    picture = pixels_of(reverse_png(drawing))
    assert picture.shape[1] > 600
    for row in range(2):
        for column, t in enumerate((0, 2, 4, 6, 8, 10)):
            np.testing.assert_array_equal(cell(picture, row, column, 28), digit_to_u8(states[t][row]))
    with pytest.raises(ValueError, match="a multiple of 5 as number of steps, got 7"):
        reverse_png(DigitSampler(tiny_digit_model, "ddpm", num_inference_steps=7))


class Brightness:
    """In place of a recognizer: an image is the likelier recognized the brighter it is than `certain`."""

    def __init__(self, certain: float) -> None:
        self.certain = certain

    def probabilities(self, images_pm1, digits):
        assert (len(images_pm1), images_pm1.shape[1:]) == (len(digits), (3, 28, 28))
        return torch.sigmoid(100 * (images_pm1.mean(dim=(1, 2, 3)) - self.certain)) * (READ + 0.1)


@pytest.mark.parametrize(("certain", "batch_size"), [(-1.0, 3), (-0.03, 1), (-0.03, 3), (-0.03, 100), (0.1, 3)])
def test_a_digit_is_drawn_again_until_it_is_recognized_and_the_best_is_kept(tiny_digit_model, certain, batch_size):
    options = {"num_inference_steps": 3, "guidance_scale": 1.0, "seed": 7}
    reader, once = Brightness(certain), DigitSampler(tiny_digit_model, **options)
    names, expected, tries = NAMES, {}, []
    for name in names:
        alone, best = [], -1.0
        for again in range(TRIES):
            image = [state.sample for state in once.states([name], again)][-1]
            alone.append(image)
            probability = float(reader.probabilities(image, labels_of([name])[0]))
            if probability > best:
                best, expected[name] = probability, image[0]
            if best >= READ:
                break
        assert len({image.sum().item() for image in alone}) == len(alone), "each has noise of its own"
        tries.append(len(alone))
    seen = []
    drawing = DigitSampler(tiny_digit_model, **options, batch_size=batch_size, recognizer=reader)
    drawn = dict(drawing.sample(names, lambda note, count: seen.append(count)))
    assert all(torch.equal(drawn[name], expected[name]) for name in names)
    assert sum(seen) == 3 * len(names), "the bar counts each digit once"
    assert {-1.0: max(tries) == 1, -0.03: len(set(tries)) > 2, 0.1: min(tries) == TRIES}[certain], tries


def test_a_recognizer_reads_each_image_alone_and_within_its_range():
    torch.manual_seed(0)
    recognizer, images = Recognizer().eval(), 2 * torch.randn(30, 3, 28, 28)
    digits = torch.arange(30) % 10
    together = recognizer.probabilities(images, digits)
    alone = torch.cat([recognizer.probabilities(images[i : i + 1], digits[i : i + 1]) for i in range(30)])
    assert torch.equal(together, alone)
    with torch.no_grad():
        scores = recognizer.double()(images.double().clamp(-1, 1)).exp()
    expected = [scores[i, i % 10] / scores[i].sum() for i in range(30)]
    assert together.tolist() == pytest.approx(torch.stack(expected).tolist(), rel=1e-4)
