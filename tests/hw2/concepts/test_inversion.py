import copy
import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torch.testing import assert_close

from hw2.concepts import templates
from hw2.concepts.embeddings import read_embeddings
from hw2.concepts.inversion import Inversion, paired_images, read_captions
from hw2.concepts.recipe import InversionConfig
from hw2.concepts.stable_diffusion import StableDiffusion
from hw2.concepts.training import learn_word, training_folder
from hw2.errors import InputError
from hw2.files.pictures import read_images
from tests.models.tiny_sd import tiny_parts

CONFIG = InversionConfig(
    "<new1>", "dog", num_steps=6, learning_rate=0.05, batch_size=4, validate_every=2, keep_norm=False
)


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1


def learn(tiny_model, images, output, config=CONFIG, **options):
    return learn_word(copy.deepcopy(tiny_model), images, config, output, **options)


def changed(**options):
    return dataclasses.replace(CONFIG, **options)


def test_nothing_but_the_new_rows_changes(tiny_model, images, tmp_path):
    model = copy.deepcopy(tiny_model)
    networks = {"unet": model.unet, "vae": model.vae, "text": model.text_encoder}
    before = {name: {k: v.clone() for k, v in n.state_dict().items()} for name, n in networks.items()}
    vectors = learn_word(model, images, changed(num_steps=2, vectors=2), tmp_path / "e.safetensors")
    for name, network in networks.items():
        after = network.state_dict()
        different = [k for k, v in before[name].items() if not torch.equal(v, after[k])]
        assert different == (["embeddings.token_embedding.vectors"] if name == "text" else [])
    assert vectors.shape == (2, 32)
    assert not torch.equal(vectors[0], vectors[1])
    assert torch.equal(read_embeddings(tmp_path / "e.safetensors")["<new1>"], vectors)


@pytest.mark.parametrize("captions", [None, ["a <new1> on the beach", None, "a red <new1>"]])
def test_the_loss_is_the_definition(tiny_model, images, captions):
    model = copy.deepcopy(tiny_model)
    inversion = Inversion(model, images, changed(flip=True), captions)
    with torch.no_grad():
        ours = float(inversion.loss(torch.Generator().manual_seed(7), 16, slice(None)))
    unet, vae, text = tiny_parts()
    g = torch.Generator().manual_seed(7)
    index, said = torch.randint(6, (16,), generator=g), torch.randint(len(templates.OBJECT), (16,), generator=g)
    own = torch.rand(16, generator=g) >= 0.5 if captions else [False] * 16
    order, within = torch.randperm(16, generator=g), torch.rand(16, generator=g)
    spread, noise = torch.randn(16, 4, 8, 8, generator=g), torch.randn(16, 4, 8, 8, generator=g)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    abar = np.cumprod(1 - betas)
    errors = []
    with torch.no_grad():
        for i in range(16):
            image = images[index[i] % 3]
            found = vae.encode((image.flip(-1) if index[i] >= 3 else image)[None]).latent_dist
            latents = 0.5 * (found.mean + found.std * spread[i])
            t = int((order[i] + within[i]) / 16 * 1000)
            noisy = abar[t] ** 0.5 * latents + (1 - abar[t]) ** 0.5 * noise[i]
            sentence = (captions[index[i] % 3] if own[i] else None) or templates.OBJECT[said[i]].format("<new1>")
            # the new word starts as "dog", so that sentence must do
            ids = model.tokenizer(sentence.replace("<new1>", "dog"), padding="max_length", return_tensors="pt")
            states = text(ids.input_ids).last_hidden_state
            errors.append(F.mse_loss(unet(noisy.float(), torch.tensor(t), states).sample[0], noise[i]))
    assert_close(ours, float(torch.stack(errors).mean()), rtol=1e-4, atol=0)


def test_v_prediction_has_its_own_target(tiny_model, images):
    losses = []
    for kind in ("epsilon", "v_prediction"):
        inversion = Inversion(dataclasses.replace(copy.deepcopy(tiny_model), prediction_type=kind), images, CONFIG)
        inversion.model.unet.forward = lambda sample, *a, **k: type("Out", (), {"sample": torch.zeros_like(sample)})
        with torch.no_grad():
            losses.append(float(inversion.loss(torch.Generator().manual_seed(1), 64, slice(None))))
        mean = inversion._mean.square().mean() + inversion._std.square().mean()
    assert losses[0] == pytest.approx(1, abs=0.1)
    assert min(1, float(mean)) - 0.15 < losses[1] < max(1, float(mean)) + 0.15
    assert losses[0] != losses[1]


def test_learning_lowers_the_validation_loss(tiny_model, images, tmp_path):
    seen = []
    config = changed(num_steps=8, validate_every=4, learning_rate=0.1)
    start = Inversion(copy.deepcopy(tiny_model), images, config).validation_loss()
    learn(tiny_model, images, tmp_path / "e.safetensors", config, watch=seen.append)
    assert [progress.step for progress in seen] == [4, 8]
    assert min(progress.validation_loss for progress in seen) < start * 0.97  # the noises are fixed


def test_patience_ends_a_run_and_the_vectors_with_the_best_validation_are_kept(
    tiny_model, images, tmp_path, monkeypatch
):
    seen, losses = [], iter([3.0, 1.0, 2.0, 2.0])
    monkeypatch.setattr(Inversion, "validation_loss", lambda self: next(losses))
    config = changed(num_steps=12, validate_every=2, patience=2)
    kept = learn(tiny_model, images, tmp_path / "e.safetensors", config, watch=seen.append)
    assert [progress.step for progress in seen] == [2, 4, 6, 8]
    assert torch.equal(kept, seen[1].vectors)
    assert not torch.equal(kept, seen[3].vectors)
    again = learn(tiny_model, images, tmp_path / "e.safetensors", config, resume=True, watch=seen.append)
    assert torch.equal(kept, again)
    assert len(seen) == 4, "it was not trained further"


def test_a_stopped_run_goes_on_to_the_same_vectors(tiny_model, images, tmp_path):
    whole = learn(tiny_model, images, tmp_path / "whole.safetensors")

    def stop(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(tiny_model, images, tmp_path / "e.safetensors", save_every=3, watch=stop)
    assert not (tmp_path / "e.safetensors").exists()
    assert torch.equal(learn(tiny_model, images, tmp_path / "e.safetensors", save_every=3, resume=True), whole)


CHANGES = [{"seed": 1}, {"kind": "style"}, {"flip": False}, {"keep_norm": True}, {"learning_rate": 0.01}]
CHANGES += [{"pairs": True}, {"lr_scheduler": "cosine"}]


@pytest.fixture(scope="module")
def two_steps(tiny_model, images, tmp_path_factory):
    """What two steps learn, and their file; nobody writes to it or the folder of its training."""
    output = tmp_path_factory.mktemp("two_steps") / "e.safetensors"
    return learn(tiny_model, images, output, changed(num_steps=2)), output


@pytest.mark.parametrize("change", [*CHANGES, {"initializer": "cat"}], ids=str)
def test_every_option_changes_the_vectors(tiny_model, images, two_steps, tmp_path, change):
    other = learn(tiny_model, images, tmp_path / "b.safetensors", changed(num_steps=2, **change))
    assert not torch.allclose(two_steps[0], other, atol=1e-4)


def test_accumulation_changes_rounding_only(tiny_model, images, two_steps, tmp_path):
    parts = learn(tiny_model, images, tmp_path / "b.safetensors", changed(num_steps=2, accumulation=4))
    assert_close(two_steps[0], parts, rtol=0, atol=1e-3)


def test_a_kept_norm_is_the_initializers(tiny_model, images, tmp_path):
    vectors = learn(tiny_model, images, tmp_path / "a.safetensors", changed(num_steps=2, keep_norm=True, vectors=2))
    model = copy.deepcopy(tiny_model)
    dog = model.words.weight[model.tokenizer("dog", add_special_tokens=False).input_ids].norm()
    assert_close(vectors.norm(dim=1), dog.expand(2), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"initializer": "elephant"}, "spells in 6 pieces"),
        ({"initializer": "red dog"}, "spells in 2 pieces"),
        ({"initializer": ""}, "spells in 0 pieces"),
        ({"token": "dog</w>"}, "is a word of the model already"),
    ],
)
def test_words_that_cannot_start_are_refused(tiny_model, images, change, match):
    with pytest.raises(InputError, match=match):
        Inversion(copy.deepcopy(tiny_model), images, changed(**change))


@pytest.mark.parametrize(
    "options",
    [
        {"num_steps": 0},
        {"vectors": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"accumulation": 3},
        {"pairs": True, "kind": "style"},
        {"pairs": True, "batch_size": 1},
    ],
)
def test_numbers_that_cannot_train_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        changed(**options)


@pytest.mark.parametrize("mirror", [True, False])
def test_a_pair_is_the_image_beside_itself_on_the_lower_edge(mirror):
    ramp = torch.linspace(-1, 1, 64).expand(20, 3, 64, 64).clone()  # brighter to the right
    ramp[:, :, :2] = 0  # and grey at the top
    pictures, shares = paired_images(ramp, 4, torch.Generator().manual_seed(0), mirror)
    assert pictures.shape == ramp.shape
    assert shares.shape == (20, 1, 16, 16)
    assert_close(shares.mean((1, 2, 3)), torch.ones(20))
    heights = shares[:, 0, :, 0].bool().sum(1) * 4  # how much is learned from, in pixels
    assert 0.6 * 64 < heights.min() < heights.max() < 0.8 * 64
    left, right = pictures[:, 0, -1].split(32, dim=-1)
    assert bool((left.diff() > 0).all())  # the middle, made smaller: so steeper than the original
    assert_close(left.mean(1), torch.zeros(20), rtol=0, atol=0.02)
    assert_close((left[:, -1] - left[:, 0]) / 31, 2 / 63 * 64 / heights, rtol=0.02, atol=0)
    mirrored = (right - left.flip(-1)).abs().amax(1) < 1e-6
    assert bool((mirrored | ((right - left).abs().amax(1) < 1e-6)).all())
    assert (0 < mirrored.sum() < 20) if mirror else not mirrored.any()
    for picture, height in zip(pictures, heights.tolist(), strict=True):
        assert picture[:, : 64 - height].abs().max() < 0.7  # only the (partly) grey row, repeated upwards
        assert torch.equal(picture[:, 0], picture[:, 64 - height])


def test_every_second_picture_is_a_pair_named_twice_whose_filling_is_not_learned(tiny_model, images, monkeypatch):
    model, said, wrong = copy.deepcopy(tiny_model), [], torch.zeros(8, 8)
    new = len(model.words.weight)
    inversion = Inversion(model, images, changed(pairs=True))
    encode = StableDiffusion.encode_tokens

    def listen(self, ids):
        said.append((ids == new).sum(1).tolist())
        return encode(self, ids)

    monkeypatch.setattr(StableDiffusion, "encode_tokens", listen)
    monkeypatch.setattr(StableDiffusion, "predict", lambda self, x, t, states: torch.zeros_like(x) + wrong)

    def loss(part):
        return float(inversion.loss(torch.Generator().manual_seed(3), 6, part))

    singles, pairs = loss(slice(0, None, 2)), loss(slice(1, None, 2))
    assert said == [[1, 1, 1], [2, 2, 2]]
    assert_close(pairs, 1.0, rtol=0, atol=0.3)  # the noise's variance: shares have the mean 1
    wrong[0] = 100.0
    assert loss(slice(1, None, 2)) == pairs
    assert loss(slice(0, None, 2)) > singles + 100
    wrong[0], wrong[-1] = 0.0, 100.0
    assert loss(slice(1, None, 2)) > pairs + 100


def test_the_cosine_falls_as_pytorchs_does():
    config = changed(num_steps=40, lr_scheduler="cosine")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], config.learning_rate)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    for step in range(40):
        assert_close(config.learning_rate_at(step), oracle.get_last_lr()[0])
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize(("lr_scheduler", "length", "kept_at"), [("cosine", 4, 4), ("constant", 3, 1)])
def test_only_a_run_at_a_constant_rate_ends_early_and_keeps_its_best(
    tiny_model, images, tmp_path, monkeypatch, lr_scheduler, length, kept_at
):
    seen, losses = [], iter(range(8))
    monkeypatch.setattr(Inversion, "validation_loss", lambda self: float(next(losses)))  # worse each time
    config = changed(validate_every=1, patience=2, num_steps=4, lr_scheduler=lr_scheduler)
    kept = learn(tiny_model, images, tmp_path / "e.safetensors", config, watch=seen.append)
    assert len(seen) == length
    assert torch.equal(kept, seen[kept_at - 1].vectors)


def test_a_run_whose_rate_falls_to_its_last_step_keeps_that_step(tiny_model, images, tmp_path):
    config = changed(num_steps=2, lr_scheduler="cosine")
    learn(tiny_model, images, tmp_path / "e.safetensors", config)
    with pytest.raises(InputError, match=r"other options \(num_steps\)"):
        learn(tiny_model, images, tmp_path / "e.safetensors", dataclasses.replace(config, num_steps=4), resume=True)


def test_a_run_that_was_not_asked_for_is_left_alone(tiny_model, images, two_steps, tmp_path):
    output = tmp_path / "run" / "e.safetensors"
    with pytest.raises(InputError, match="nothing to resume"):
        learn(tiny_model, images, output, resume=True)
    shutil.copytree(two_steps[1].parent, output.parent)
    for match, options in {
        "belongs to an earlier run": {},
        "trained on other images": {"resume": True, "images": images[:2]},
        "trained on other captions": {"resume": True, "captions": ["a red <new1>", None, None]},
        r"other options \(learning_rate, seed\)": {
            "resume": True,
            "config": changed(num_steps=2, seed=1, learning_rate=1),
        },
    }.items():
        with pytest.raises(InputError, match=match):
            learn(tiny_model, **{"images": images, "output": output, "config": changed(num_steps=2)} | options)
    other = dataclasses.replace(tiny_model, prediction_type="v_prediction")
    with pytest.raises(InputError, match="trained on other model weights"):
        learn(other, images, output, changed(num_steps=2), resume=True)
    torch.save({"x": 1}, training_folder(output) / "checkpoint.pt")
    with pytest.raises(InputError, match="is not a checkpoint of"):
        learn(tiny_model, images, output, resume=True)


def test_captions_belong_to_their_images_and_pairs_have_none(tiny_model, images):
    captions = ["a <new1> on the beach", None, "a red <new1>"]
    inversion = Inversion(copy.deepcopy(tiny_model), images, changed(pairs=True), captions)
    general = len(templates.OBJECT) + len(templates.PAIR)
    assert inversion._own.tolist() == [general, -1, general + 1] * 2 + [-1] * (len(inversion._mean) - 6)
    assert torch.equal(inversion._ids[general:], inversion.model.tokenize([captions[0], captions[2]]))


def test_captions_are_read_in_the_order_of_the_images(tmp_path):
    for name in ("b.png", "a.png", "c.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"c.jpg": "a tree in the style of {}", "a.png": "a <new1> at night"}))
    assert read_captions(path, tmp_path, "<new1>") == ["a <new1> at night", None, "a tree in the style of <new1>"]
    for content, match in {
        "[]": "holds no such object; expected an object",
        '{"a.png": 1}': "holds no such object",
        "{": "is not valid JSON",
        '{"a.png": "a {}", "a.png": "b {}"}': "is there twice",
        '{"a.png": "\\ud800 {}"}': "is not valid JSON",
        '{"d.png": "a {}"}': r"a sentence for d\.png, which is not in .* \(a\.png, b\.png, c\.jpg\)",
        '{"a.png": "a tree"}': r"has 'a tree' for a\.png; expected {} in place of <new1>",
    }.items():
        path.write_text(content)
        with pytest.raises(InputError, match=match):
            read_captions(path, tmp_path, "<new1>")


@pytest.mark.parametrize("keep_norm", [False, True])
def test_numbers_that_overflow_end_the_run_and_write_nothing(tiny_model, images, tmp_path, keep_norm, monkeypatch):
    monkeypatch.setattr(InversionConfig, "learning_rate_at", lambda self, step: 1e30)
    with pytest.raises(InputError, match=r"overflowed at step \d+; use a smaller learning rate"):
        learn(tiny_model, images, tmp_path / "e.safetensors", changed(keep_norm=keep_norm))
    assert not (tmp_path / "e.safetensors").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"done": "x"}, {"done": -3}, {"done": 5}, {"losses": None}, {"config": "{"}, {"config": "[]"}, {"config": 5},
        {"inputs": None}, {"optimizer": {}}, {"vectors": torch.ones(1, 3)}, {"best_vectors": None},
        {"vectors": torch.full((1, 32), float("nan"))}, {"best_at": "x"}, {"best_at": -2},
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_shape_is_refused(tiny_model, images, two_steps, tmp_path, change):
    output = tmp_path / "run" / "e.safetensors"
    shutil.copytree(two_steps[1].parent, output.parent)
    path = training_folder(output) / "checkpoint.pt"
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(InputError, match="is not a checkpoint of `hw2 concepts learn`"):
        learn(tiny_model, images, output, changed(num_steps=4), resume=True)


def test_a_run_is_not_made_shorter(tiny_model, images, two_steps):
    with pytest.raises(InputError, match="has 2 steps already; ask for as many or more"):
        learn(tiny_model, images, two_steps[1], changed(num_steps=1), resume=True)


def test_files_that_are_no_pictures_to_learn_from_are_refused(tmp_path):
    """A pipe would be waited for, 16 bits would come out white, and a bomb would fill the memory."""
    path = tmp_path / "a.png"
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"a\.png is not a file"):
        read_images(tmp_path, 16)
    path.unlink()
    Image.fromarray(np.full((8, 8), 700, np.uint16)).save(path)
    with pytest.raises(InputError, match="has the mode I;16; expected 8 bits"):
        read_images(tmp_path, 16)
    Image.new("1", (13000, 13000)).save(path)
    with pytest.raises(InputError, match="claims 13000x13000 pixels"):
        read_images(tmp_path, 16)
    Image.new("RGB", (8, 8)).save(path, format="EPS")
    with pytest.raises(InputError, match=r"a\.png is not a readable image"):
        read_images(tmp_path, 16)


def test_images_are_upright_squares_in_order(tmp_path):
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 10:30] = 255  # only the middle square is white
    Image.fromarray(wide).save(tmp_path / "b.png")
    turned = Image.fromarray(np.concatenate([np.zeros((20, 20), np.uint8), np.full((20, 20), 255, np.uint8)]))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.resize((20, 20)).save(tmp_path / "a.JPG", exif=exif)
    (tmp_path / ".DS_Store").write_bytes(b"Bud1")
    (tmp_path / "notes.txt").write_text("not an image")
    found = read_images(tmp_path, 8)
    assert found.shape == (2, 3, 8, 8)
    assert found[0, 0, 0].min() > 0.9  # the lower half was white
    assert found[0, 0, -1].max() < -0.9
    assert (found[1] > 0.7).all()


def test_folders_without_readable_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="has no images"):
        read_images(tmp_path, 8)
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InputError, match=r"a\.jpg is not a readable image"):
        read_images(tmp_path, 8)
    with pytest.raises(InputError, match="is not a folder"):
        read_images(tmp_path / "a.jpg", 8)
