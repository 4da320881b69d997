"""The CLIP judge: what it takes, what it refuses, and that neither batch nor company changes an image's features."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils import logging as transformers_logging

from grading.core.errors import GradingError
from grading.judges.clip import FEWEST, load_clip
from grading.judges.protocols import CLIP_MODEL
from tests.models.tiny_clip import save_tiny_clip, tiny_clip, tiny_tokenizer
from tests.oracles import clip_image_features_twin

SIZE = 32


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def folder(tmp_path, shared_folder):
    """A model of the test's own."""
    return shutil.copytree(shared_folder, tmp_path / "clip")


def random_images(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in sizes]


def change(path, **changes):
    """Set entries of a JSON file; those set to None are taken out."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


THIN = [
    (1, 1),
    (3, 3),
    (77, 1),
    (77, 3),
    (1, 77),
    (3, 77),
    (2000, 2),
    (SIZE, SIZE),
    (SIZE + 1, SIZE),
    (SIZE, 2 * SIZE - 1),
]


@pytest.mark.parametrize("size", THIN)
def test_images_of_any_shape_have_the_features_of_transformers_4(shared_folder, size):
    (image,) = random_images(size)
    expected = clip_image_features_twin(Image.fromarray(image), CLIPModel.from_pretrained(shared_folder), SIZE)[0]
    (found,) = load_clip(str(shared_folder)).image_features([image])
    np.testing.assert_allclose(found, expected / expected.norm(), rtol=0, atol=1e-6)


def test_an_odd_number_of_pixels_is_cut_as_since_transformers_4_26(shared_folder):
    """4.19.2 would cut the larger half on the left."""
    judge = load_clip(str(shared_folder))
    (image,) = random_images((SIZE + 1, SIZE))
    whole, left, right = judge.image_features([image, image[:, :-1], image[:, 1:]])
    np.testing.assert_array_equal(whole, left)
    assert not np.array_equal(whole, right)


@pytest.mark.parametrize("count", [1, FEWEST - 1, FEWEST + 1, 55])
def test_features_do_not_depend_on_the_batch_or_on_the_other_images(shared_folder, count):
    images = random_images(*[(40, 50)] * (count - 1), (33, 60))
    judge = load_clip(str(shared_folder), batch_size=25)
    found = judge.image_features(images)
    for batch_size in (7, 17, 100):
        np.testing.assert_array_equal(
            load_clip(str(shared_folder), batch_size=batch_size).image_features(images), found
        )
    np.testing.assert_array_equal(judge.image_features([images[-1]])[0], found[-1])


def test_the_batch_size_says_how_many_images_are_seen_at_once(shared_folder):
    rows = []
    for batch_size in (1, 20, 40):
        judge = load_clip(str(shared_folder), batch_size=batch_size)
        judge.model.vision_model.register_forward_pre_hook(
            lambda _, args, kwargs: rows.append(len(kwargs["pixel_values"])), with_kwargs=True
        )
        judge.image_features(random_images(*[(SIZE, SIZE)] * 40))
    assert rows == [FEWEST] * 3 + [20] * 2 + [40]


def test_no_images_have_no_features(shared_folder):
    assert load_clip(str(shared_folder)).image_features([]).shape == (0, 16)


def test_a_long_sentence_keeps_its_end(shared_folder):
    """CLIP reads a sentence's features off its end token."""
    judge = load_clip(str(shared_folder))
    long, longer, other = judge.text_features(["a dog " * 40, "a dog " * 60, "a cat " * 40])
    np.testing.assert_array_equal(long, longer)
    assert abs(long - other).max() > 1e-2
    cut = judge.tokenizer(["a dog " * 40], truncation=True, max_length=32).input_ids[0]
    assert (len(cut), cut[-1]) == (32, judge.tokenizer.eos_token_id)


def test_sentences_do_not_depend_on_each_other(shared_folder):
    sentences = ["a dog", "", "a red cat on the beach, in the style of 1234567890"]
    alone = [load_clip(str(shared_folder)).text_features([sentence]) for sentence in sentences]
    judge = load_clip(str(shared_folder))
    np.testing.assert_array_equal(judge.text_features(sentences), np.concatenate(alone))
    np.testing.assert_array_equal(judge.text_features(sentences[::-1]), np.concatenate(alone[::-1]))


def test_a_sentence_is_encoded_once_for_all_submissions(shared_folder, monkeypatch):
    judge = load_clip(str(shared_folder))
    encoded, encode = [], judge.model.get_text_features
    monkeypatch.setattr(judge.model, "get_text_features", lambda **tokens: encoded.append(1) or encode(**tokens))
    for _ in range(2):
        judge.text_features(["a cat", "a dog", "a cat"])
    assert len(encoded) == 2


def test_the_model_is_known_by_its_weights(shared_folder, folder):
    first = load_clip(str(shared_folder)).identity
    assert (first.kind, first.file) == ("custom", str(shared_folder))
    assert load_clip(str(folder)).identity.sha256 == first.sha256
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"][0, 0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_clip(str(folder)).identity.sha256 != first.sha256


@pytest.mark.parametrize("shown", [True, False])
def test_progress_bars_of_the_library_are_afterwards_as_they_were(shared_folder, shown):
    bars = transformers_logging.is_progress_bar_enabled()
    change_bars = {True: transformers_logging.enable_progress_bar, False: transformers_logging.disable_progress_bar}
    try:
        change_bars[shown]()
        load_clip(str(shared_folder))
        assert transformers_logging.is_progress_bar_enabled() is shown
    finally:
        change_bars[bars]()


def test_only_what_comes_from_the_hub_is_the_official_judge(shared_folder, tmp_path, monkeypatch):
    shutil.copytree(shared_folder, tmp_path / CLIP_MODEL)
    monkeypatch.chdir(tmp_path)
    assert load_clip(CLIP_MODEL).identity.kind == "custom"


def features(folder):
    judge = load_clip(str(folder))
    return np.concatenate([judge.image_features(random_images((50, 40))), judge.text_features(["a red dog"])])


def test_a_folder_as_the_official_one_was_saved_is_read_too(shared_folder, folder):
    """Pickled weights with buffers that the model no longer has, sizes as numbers, words and merges as files."""
    weights = load_file(folder / "model.safetensors")
    weights["text_model.embeddings.position_ids"] = torch.arange(32)[None]
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    preprocessor = folder / "preprocessor_config.json"
    change(
        preprocessor, size=SIZE, crop_size=SIZE, feature_extractor_type="CLIPFeatureExtractor",
        do_rescale=None, rescale_factor=None, do_convert_rgb=None, image_processor_type=None,
    )  # fmt: skip
    tokenizer = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(tokenizer["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (folder / "tokenizer.json").unlink()
    np.testing.assert_array_equal(features(folder), features(shared_folder))


def test_a_folder_as_transformers_5_saves_it_is_read_too(shared_folder, tmp_path):
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    CLIPProcessor(processor, tiny_tokenizer()).save_pretrained(tmp_path)
    tiny_clip().save_pretrained(tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()
    np.testing.assert_array_equal(features(tmp_path), features(shared_folder))


def test_the_folder_says_how_images_are_prepared(shared_folder, folder):
    change(folder / "preprocessor_config.json", image_mean=[0.5, 0.5, 0.5])
    assert abs(features(folder)[0] - features(shared_folder)[0]).max() > 1e-3
    np.testing.assert_array_equal(features(folder)[1], features(shared_folder)[1])


def test_a_tokenizer_may_have_fewer_words_than_the_model(tmp_path, shared_folder):
    model = tiny_clip()
    model.text_model.resize_token_embeddings(200)
    model.config.text_config.vocab_size = 200
    save_tiny_clip(tmp_path)
    model.save_pretrained(tmp_path)
    np.testing.assert_array_equal(features(tmp_path), features(shared_folder))


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_that_runs_code_does_not(tmp_path, folder):
    torch.save({"x": Evil(tmp_path / "ran")}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(GradingError, match="nothing else is unpickled") as error:
        load_clip(str(folder))
    assert "weights_only" not in str(error.value)  # torch advises to switch it off
    assert not (tmp_path / "ran").exists()


def test_code_in_a_folder_is_not_run(tmp_path, folder, shared_folder):
    for name in ("modeling_evil", "processing_evil", "tokenization_evil"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    change(folder / "config.json", auto_map={"AutoModel": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Evil"})
    change(folder / "preprocessor_config.json", auto_map={"AutoImageProcessor": "processing_evil.Evil"})
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_evil.Evil", None]})
    np.testing.assert_array_equal(features(folder), features(shared_folder))
    assert not (tmp_path / "ran").exists()


def cut_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def huge_header(folder):
    (folder / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")


def lose_a_weight(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def set_a_weight(name, value):
    def spoil(folder):
        weights = load_file(folder / "model.safetensors")
        weights[name].fill_(value)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return spoil


def lose(*names):
    def spoil(folder):
        for name in names:
            (folder / name).unlink()

    return spoil


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (cut_weights, "cannot be loaded as a CLIP model"),
        (huge_header, "cannot be loaded as a CLIP model"),
        (lose("model.safetensors"), "cannot be loaded as a CLIP model"),
        (lose("config.json"), "is not a CLIP model; expected a folder with config.json"),
        (lose("preprocessor_config.json"), "cannot be loaded as a CLIP model"),
        (lose("tokenizer.json"), "a tokenizer of . words"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded as a CLIP model"),
        (lambda folder: change(folder / "config.json", text_config=[]), "cannot be loaded as a CLIP model"),
        (
            lambda folder: change(folder / "config.json", text_config={"num_hidden_layers": 2**64}),
            "has 18446744073709551616 under num_hidden_layers; expected at most 1000",
        ),
        (lambda folder: change(folder / "config.json", projection_dim=24), "no weights of the right shape"),
        (lose_a_weight, "no weights of the right shape for text_projection.weight"),
        (set_a_weight("logit_scale", 1000), "logit_scale that is not finite"),
        (set_a_weight("visual_projection.weight", float("nan")), "not finite, visual_projection.weight among them"),
        (set_a_weight("visual_projection.weight", 3e38), "features that are not finite"),
        (
            lambda folder: change(folder / "preprocessor_config.json", crop_size={"height": 48, "width": 48}),
            "do not fit together",
        ),
        (lambda folder: change(folder / "preprocessor_config.json", image_std=[0] * 3), "features that are not finite"),
        (lambda folder: change(folder / "preprocessor_config.json", resample=99), "do not fit together"),
    ],
)  # fmt: skip
def test_broken_folders_are_refused_in_one_sentence(folder, spoil, match):
    spoil(folder)
    with pytest.raises(GradingError, match=match) as caught:
        load_clip(str(folder))
    assert str(caught.value).isprintable()
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["none", "no/such/folder", "embedded\n", "README.md"])
def test_names_that_are_neither_folder_nor_hub_name_are_refused(name):
    with pytest.raises(GradingError, match="is not a CLIP model; expected a folder") as caught:
        load_clip(name)
    assert str(caught.value).isprintable()


def test_a_model_that_the_hub_does_not_give_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(GradingError, match=r"nobody/nothing cannot be loaded .* check the name and the network"):
        load_clip("nobody/nothing")
