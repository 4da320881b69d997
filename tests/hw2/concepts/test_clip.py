import hashlib
import json
import os
import shutil
import socket
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip import factory, pretrained
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessorPil, CLIPModel

from grading.environment.hub_models import HUB_MODELS
from hw2.concepts import clip as clip_module
from hw2.concepts.clip import COMMITS, TAGS, load_clip, openai_templates
from hw2.errors import InputError
from tests.models.tiny_clip import register_tiny_open_clip, save_tiny_clip, tiny_clip, tiny_open_clip
from tests.models.tiny_sd import tiny_tokenizer

SENTENCES = ["a dog on the beach", "a red cat", "a photo of aquarium_fish.", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """An open_clip file, and the two tiny architectures made known."""
    here = tmp_path_factory.mktemp("open_clip")
    register_tiny_open_clip(here / "configs")
    torch.save(tiny_open_clip().state_dict(), here / "tiny.pt")
    return here / "tiny.pt"


@pytest.fixture(scope="module")
def both(folder, file):
    """One of each kind."""
    return load_clip(str(folder)), load_clip(f"tiny-test:{file}")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def pictures(count, size=(40, 52), seed=0):
    g = np.random.default_rng(seed)
    return [Image.fromarray(g.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(count)]


def pixels_of(clip, images):
    return torch.stack([clip.preprocess(image) for image in images])


def test_a_folder_gives_what_transformers_gives(folder, no_network):
    clip, model = load_clip(str(folder)), tiny_clip().double()
    processor, tokenizer = CLIPImageProcessorPil.from_pretrained(folder), tiny_tokenizer()
    images = pictures(3)
    pixels = processor(images, return_tensors="pt").pixel_values
    assert torch.equal(pixels_of(clip, images), pixels)
    words = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    output = model(**words, pixel_values=pixels.double())
    torch.testing.assert_close(clip.image_features(pixels), output.image_embeds, atol=1e-6, rtol=0)
    torch.testing.assert_close(clip.text_features(SENTENCES), output.text_embeds, atol=1e-6, rtol=0)
    cosines = clip.image_features(pixels) @ clip.text_features(SENTENCES).T
    torch.testing.assert_close(clip.logit_scale * cosines, output.logits_per_image, atol=1e-4, rtol=0)


def test_images_are_resized_by_pil(folder):
    """As the official scorer's transformers 4 did; version 5 by default takes torchvision, up to a level of 255 off."""
    [image] = pictures(1, size=(64, 80))
    resized = image.resize((40, 32), Image.Resampling.BICUBIC).crop((4, 0, 36, 32))
    expected = torch.from_numpy(np.asarray(resized, dtype=np.float64)).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    found = load_clip(str(folder)).preprocess(image)
    torch.testing.assert_close(found.double(), (expected - mean) / std, atol=1e-5, rtol=0)


def test_an_open_clip_file_gives_what_open_clip_gives(file, no_network):
    clip, model = load_clip(f"tiny-test:{file}"), tiny_open_clip()
    preprocess = open_clip.image_transform(32, is_train=False)
    images = pictures(3)
    pixels = torch.stack([preprocess(image) for image in images])
    assert torch.equal(pixels_of(clip, images), pixels)
    expected = model.encode_image(pixels, normalize=True)
    torch.testing.assert_close(clip.image_features(pixels).float(), expected, atol=1e-6, rtol=0)
    ids = open_clip.SimpleTokenizer(context_length=32)(SENTENCES)
    expected = model.encode_text(ids, normalize=True)
    torch.testing.assert_close(clip.text_features(SENTENCES).float(), expected, atol=1e-6, rtol=0)
    assert clip.logit_scale == pytest.approx(float(model.logit_scale.exp()))


def test_a_safetensors_file_of_open_clip_is_the_same(file, tmp_path):
    save_file(tiny_open_clip().state_dict(), tmp_path / "tiny.safetensors")
    [first, second] = (load_clip(f"tiny-test:{path}") for path in (file, tmp_path / "tiny.safetensors"))
    assert torch.equal(first.text_features(SENTENCES), second.text_features(SENTENCES))


def test_the_activation_is_that_of_the_weights(file, monkeypatch, tmp_path):
    """By tag as the tag says, by file as the architecture's name says; checked by what comes out."""
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    quick, plain = (tiny_open_clip(quick_gelu=q).encode_image(pixels, normalize=True) for q in (True, False))
    assert not torch.allclose(quick, plain, atol=1e-3)
    tags = {"openai": {"url": "x", "quick_gelu": True}, "laion": {"url": "x"}}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-test", tags)
    monkeypatch.setattr(factory, "download_pretrained", lambda config, cache_dir=None: str(file))
    expected = {
        "tiny-test/openai": quick, "tiny-test/laion": plain,
        f"tiny-test-quickgelu:{file}": quick, f"tiny-test:{file}": plain,
    }  # fmt: skip
    for name, features in expected.items():
        torch.testing.assert_close(load_clip(name).image_features(pixels).float(), features, atol=1e-6, rtol=0)
    # a file that is called like a tag is the file
    monkeypatch.setattr(factory, "download_pretrained", lambda *_, **__: pytest.fail("downloaded"))
    monkeypatch.chdir(tmp_path)
    shutil.copy(file, "openai")
    torch.testing.assert_close(load_clip("tiny-test:openai").image_features(pixels).float(), plain, atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="the tags of tiny-test are openai, laion"):
        load_clip("tiny-test/openia")
    with pytest.raises(InputError, match="the tags of tiny-test are openai, laion"):
        load_clip("tiny-test")


def test_a_real_tag_of_openai_asks_for_quick_gelu(monkeypatch):
    asked = {}

    def create(architecture, weights, **options):
        asked.update(options, name=(architecture, weights))
        raise OSError("not today")

    monkeypatch.setattr(open_clip, "create_model_from_pretrained", create)
    for name, quick in (("ViT-B-16/openai", True), ("ViT-B-32/laion2b_s34b_b79k", False)):
        with pytest.raises(InputError, match=r"cannot be loaded as ViT-B-\d+ \(not today\)"):
            load_clip(name)
        assert asked == {"name": tuple(name.split("/")), "force_quick_gelu": quick, "weights_only": True}


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A function that puts the file of ViT-B-32/openai into the user's own cache of the Hub. There is no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def put(content, commit=TAGS["ViT-B-32/openai"].commit):
        model = tmp_path / "hub" / "models--timm--vit_base_patch32_clip_224.openai"
        file = model / "snapshots" / commit / "open_clip_model.safetensors"
        file.parent.mkdir(parents=True)
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text(commit)
        file.write_bytes(content)
        return file

    return put


def test_the_weights_of_the_official_tag_are_the_recorded_file_of_one_commit(cached, monkeypatch):
    asked = []

    def create(architecture, weights, **options):
        asked.append((architecture, weights, options["force_quick_gelu"]))
        raise OSError("not today")

    monkeypatch.setattr(open_clip, "create_model_from_pretrained", create)
    file = cached(b"other weights")
    with pytest.raises(InputError, match=r"open_clip_model\.safetensors is not the recorded file of timm/vit_base"):
        load_clip("ViT-B-32/openai")
    assert asked == []
    known = replace(TAGS["ViT-B-32/openai"], sha256=hashlib.sha256(b"other weights").hexdigest())
    monkeypatch.setitem(TAGS, "ViT-B-32/openai", known)
    with pytest.raises(InputError, match="cannot be loaded as ViT-B-32"):
        load_clip("ViT-B-32/openai")
    assert asked == [("ViT-B-32", str(file), True)]


def test_what_the_branch_main_is_today_is_not_the_official_tag(cached):
    cached(b"newer weights", commit="b" * 40)
    with pytest.raises(InputError, match=r"cannot be downloaded .* connect to the network, or give the model as ARCH"):
        load_clip("ViT-B-32/openai")


def test_a_file_of_the_official_tag_is_prepared_for_as_the_tag_is():
    as_tag, as_file = open_clip.get_pretrained_cfg("ViT-B-32", "openai"), open_clip.transform.PreprocessCfg()
    names = ("mean", "std", "interpolation", "resize_mode")
    assert [as_tag[name] for name in names] == [getattr(as_file, name) for name in names]


def test_what_hw2_and_the_grader_take_from_the_hub_is_the_same():
    recorded = {model.repository: model for model in HUB_MODELS}
    assert {name: recorded[name].revision for name in COMMITS} == COMMITS
    for each in TAGS.values():
        known = recorded[each.repository]
        assert (known.revision, known.sha256[each.file]) == (each.commit, each.sha256)


def test_a_hub_name_is_asked_for_only_if_it_is_no_path(folder, monkeypatch, tmp_path):
    asked = []

    def from_pretrained(name, **options):
        asked.append((name, options["local_files_only"], options.get("revision"), options.get("trust_remote_code")))
        raise OSError("not today\nor tomorrow")

    name = "openai/clip-vit-base-patch32"
    monkeypatch.setattr(CLIPModel, "from_pretrained", from_pretrained)
    with pytest.raises(InputError, match=r"openai/clip-vit-base-patch32 cannot be loaded .*\(not today or tomorrow\)"):
        load_clip(name)
    with pytest.raises(InputError):
        load_clip("someone/clip")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, name)
    with pytest.raises(InputError):
        load_clip(name)
    commit = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
    assert asked == [(name, False, commit, None), ("someone/clip", False, None, None), (name, True, None, None)]


@settings(max_examples=15)
@given(count=st.integers(1, 40), size=st.integers(1, 40), seed=st.integers(0, 9), of=st.sampled_from([0, 1]))
def test_features_do_not_depend_on_the_batch(both, count, size, seed, of):
    pixels = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    whole = both[of].image_features(pixels)
    assert torch.equal(torch.cat([both[of].image_features(part) for part in pixels.split(size)]), whole)
    torch.testing.assert_close(whole.norm(dim=-1), torch.ones(count, dtype=torch.float64))


def test_long_sentences_are_cut_and_still_end(both):
    for clip in both:
        ids = clip.tokenize(["dog " * 200, "dog"])
        assert ids.shape == (2, 32)
        assert ids[0, -1] == ids[1, 2] == ids[1].max()  # the end sign, where CLIP reads the sentence off


def test_half_precision_folders_are_computed_in_float32(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "half")
    tiny_clip().half().save_pretrained(tmp_path / "half")
    clip = load_clip(str(tmp_path / "half"))
    assert clip.encode_tokens(clip.tokenize(SENTENCES)).dtype == torch.float32


def test_a_folder_of_pickled_weights_is_read_without_running_any(folder, file, tmp_path, no_network):
    shutil.copytree(folder, tmp_path / "bin")
    (tmp_path / "bin" / "model.safetensors").unlink()
    torch.save(tiny_clip().state_dict(), tmp_path / "bin" / "pytorch_model.bin")
    [first, second] = (load_clip(str(path)) for path in (folder, tmp_path / "bin"))
    assert torch.equal(first.text_features(SENTENCES), second.text_features(SENTENCES))

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"x": Hostile()}, tmp_path / "bin" / "pytorch_model.bin")
    torch.save({"x": Hostile()}, tmp_path / "hostile.pt")
    for name in (str(tmp_path / "bin"), f"tiny-test:{tmp_path / 'hostile.pt'}"):
        with pytest.raises(InputError, match="cannot be loaded as"):
            load_clip(name)
    assert not (tmp_path / "ran").exists()


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder, part, **values):
    config = json.loads((folder / "config.json").read_text())
    config[part].update(values)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda f: change_weights(f, lambda w: w.pop("visual_projection.weight")),
            "lacks weights of the right shape: visual_projection.weight",
        ),
        (lambda f: change_weights(f, lambda w: w.update({"logit_scale": torch.tensor(torch.nan)})), "not finite"),
        (
            lambda f: change_weights(f, lambda w: w.update({"text_projection.weight": torch.zeros(3, 3)})),
            "text_projection.weight",
        ),
        (lambda f: [p.unlink() for p in f.glob("*token*")], "a tokenizer of 2 words for a model of"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "cannot be loaded as a CLIP model"),
        (lambda f: (f / "model.safetensors").unlink(), "cannot be loaded as a CLIP model"),
        (lambda f: (f / "config.json").unlink(), "has no config.json; expected a transformers folder"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be loaded as a CLIP model"),
        (lambda f: (f / "config.json").write_text("[]"), "cannot be loaded as a CLIP model"),
        (lambda f: (f / "model.safetensors").write_bytes(b"broken"), "cannot be loaded as a CLIP model"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_sentence(folder, tmp_path, no_network, damage, sentence):
    shutil.copytree(folder, tmp_path / "copy")
    damage(tmp_path / "copy")
    with pytest.raises(InputError, match=sentence) as error:
        load_clip(str(tmp_path / "copy"))
    assert str(tmp_path / "copy") in str(error.value)
    assert "\n" not in str(error.value)


def test_names_that_stand_for_nothing_are_refused(file, tmp_path, no_network):
    def refused(name, sentence):
        with pytest.raises(InputError, match=sentence) as error:
            load_clip(name)
        assert "\n" not in str(error.value)

    refused(str(file), "of unknown architecture; give the model as ARCHITECTURE:")
    refused("nowhere", "'nowhere' is not a CLIP model; expected a transformers folder")
    refused("./nowhere/clip", "is not a CLIP model; expected")
    refused("/nowhere/clip", "is not a CLIP model; expected")
    refused("", "is not a CLIP model; expected")
    refused(f"nothing:{file}", "open_clip has no architecture 'nothing'")
    refused("tiny-test:nowhere.pt", "'nowhere.pt' is not a file")
    refused("tiny-test:", "'' is not a file")
    (tmp_path / "broken.pt").write_bytes(b"broken")
    refused(f"tiny-test:{tmp_path / 'broken.pt'}", "broken.pt cannot be loaded as tiny-test")
    weights = tiny_open_clip().state_dict()
    torch.save({**weights, "visual.proj": torch.zeros(3, 3)}, tmp_path / "other.pt")
    refused(f"tiny-test:{tmp_path / 'other.pt'}", "other.pt cannot be loaded as tiny-test .*size mismatch")
    weights["visual.proj"][0, 0] = torch.inf
    torch.save(weights, tmp_path / "inf.pt")
    refused(f"tiny-test:{tmp_path / 'inf.pt'}", "inf.pt has weights that are not finite: visual.proj")


def test_openais_templates_are_all_there_with_a_place_for_the_object():
    templates = openai_templates()
    assert len(set(templates)) == 80
    assert all(template.count("{object}") == 1 for template in templates)
    assert [t.replace("{object}", "cat") for t in templates] == [t("cat") for t in open_clip.OPENAI_IMAGENET_TEMPLATES]


def test_logging_is_as_it_was(folder, file):
    import logging

    before = logging.root.manager.disable
    load_clip(str(folder))
    with pytest.raises(InputError):
        load_clip("tiny-test:Makefile")
    assert logging.root.manager.disable == before
    assert clip_module.FEWEST >= 5


def test_a_model_of_endless_layers_is_refused_at_once(tmp_path):
    config = save_tiny_clip(tmp_path) / "config.json"
    content = json.loads(config.read_text())
    content["vision_config"]["num_hidden_layers"] = 2**64
    config.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"config\.json has 18446744073709551616 under num_hidden_layers"):
        load_clip(str(tmp_path))
