"""Where judges come from: the data folder, a cache, the Hub, a file; and what is said when one cannot be had."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from grading.core.errors import GradingError
from grading.environment.hub_models import HubModel as Recorded
from grading.judges import JUDGES, Judges
from grading.judges.classifiers import EmbeddedSvhnClassifier, MnistmClassifier
from grading.judges.protocols import CLIP_MODEL, SAM_MODEL, SVHN_MODEL
from tests.models.tiny_clip import save_tiny_clip

NEWER = "b" * 40
"""Another commit than the recorded one."""

COMMIT = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"


def cached(cache: Path, model: str, commit: str = COMMIT) -> Path:
    """An empty snapshot of a model in a Hugging Face cache, which is the newest one there."""
    folder = cache / f"models--{model.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    return folder / "snapshots" / commit


def record(monkeypatch, snapshot: Path, commit: str = COMMIT, model: str = CLIP_MODEL) -> None:
    """Record the files of a snapshot in place of the model's own."""
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in snapshot.iterdir()}
    known = Recorded(model, commit, tuple(files), sha256=files)
    monkeypatch.setattr("grading.environment.hub_models.HUB_MODELS", (known,))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """The user's own cache, empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.fixture
def hub(own_cache, monkeypatch):
    """A Hub of files by name, and what was asked of it. Without files it cannot be reached."""
    served, asked = {}, []

    def file(model, name, revision=None):
        asked.append(name)
        if not served:
            raise LocalEntryNotFoundError("no route to host\nand more")
        if name not in served:
            raise EntryNotFoundError(name)
        folder = next(own_cache.glob("*/snapshots/*"), None) or cached(own_cache, model)
        (folder / name).write_bytes(served[name])

    def snapshot(model, allow_patterns, revision):
        asked.append(allow_patterns)
        for name in [name for name in served if Path(name).suffix in (".json", ".txt")]:
            file(model, name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", file)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    return served, asked


def test_the_courses_classifier_is_looked_for_in_the_data(tmp_path):
    judges = Judges({"mnistm": "official"}, data=tmp_path)
    with pytest.raises(
        GradingError, match=r"/Classifier\.pth is missing; give that file, or choose the embed"
    ) as error:
        judges.source("mnistm")
    assert error.value.option == "mnistm_classifier"
    (tmp_path / "Classifier.pth").write_bytes(b"weights")
    assert judges.source("mnistm").path == tmp_path / "Classifier.pth"


def test_a_file_in_place_of_the_courses_classifier_is_not_called_official(tmp_path):
    torch.save(MnistmClassifier().state_dict(), tmp_path / "Classifier.pth")
    assert Judges({"mnistm": "official"}, "cpu", data=tmp_path)["mnistm"].identity.kind == "custom"


@pytest.mark.parametrize("place", ["given", "own"])
def test_a_model_of_the_hub_is_found_in_a_cache_without_network(tmp_path, own_cache, hub, place, monkeypatch):
    folder = cached(tmp_path / "given" / "hub" if place == "given" else own_cache, CLIP_MODEL)
    record(monkeypatch, save_tiny_clip(folder))
    judges = Judges({"clip": "official"}, "cpu", hub_cache=tmp_path / "given")
    assert judges["clip"].identity.file == CLIP_MODEL
    assert judges["clip"].identity.kind == "official"
    assert hub[1] == []


def test_the_recorded_commit_is_judged_by_whatever_the_newest_one_is(tmp_path, own_cache, hub, monkeypatch):
    recorded = save_tiny_clip(cached(tmp_path / "hub", CLIP_MODEL))
    record(monkeypatch, recorded)
    save_tiny_clip(cached(tmp_path / "hub", CLIP_MODEL, NEWER))
    assert Judges({"clip": "official"}, hub_cache=tmp_path).source("clip").path == recorded


def test_a_cache_with_a_newer_commit_alone_does_not_have_the_model(tmp_path, own_cache, hub, monkeypatch):
    record(monkeypatch, save_tiny_clip(cached(tmp_path / "hub", CLIP_MODEL, NEWER)))
    with pytest.raises(GradingError, match="is in no Hugging Face cache here and could not be downloaded"):
        Judges({"clip": "official"}, hub_cache=tmp_path).source("clip")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "merges.txt"])
def test_a_cached_file_that_is_not_the_recorded_one_is_refused(tmp_path, own_cache, hub, monkeypatch, name):
    folder = save_tiny_clip(cached(tmp_path / "hub", CLIP_MODEL))
    (folder / "merges.txt").touch()
    record(monkeypatch, folder)
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(
        GradingError, match=f"{name} of {CLIP_MODEL} is not the recorded file .* remove .*/{COMMIT}, and"
    ):
        Judges({"clip": "official"}, hub_cache=tmp_path).source("clip")


def test_weights_beside_the_recorded_ones_are_refused(tmp_path, own_cache, hub, monkeypatch):
    """The library would load them in place of the recorded ones."""
    folder = save_tiny_clip(cached(tmp_path / "hub", CLIP_MODEL))
    weights = (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    record(monkeypatch, folder)
    (folder / "model.safetensors").write_bytes(weights.read_bytes())
    with pytest.raises(GradingError, match=r"model\.safetensors of .* is not the recorded file"):
        Judges({"clip": "official"}, hub_cache=tmp_path).source("clip")


def test_an_incomplete_cache_is_passed_over(tmp_path, own_cache, hub, monkeypatch):
    (cached(tmp_path / "given" / "hub", CLIP_MODEL) / "config.json").touch()
    record(monkeypatch, save_tiny_clip(cached(own_cache, CLIP_MODEL)))
    found = Judges({"clip": "official"}, hub_cache=tmp_path / "given").source("clip")
    assert found.path.is_relative_to(own_cache)


def test_the_svhn_classifier_is_the_file_in_its_snapshot(tmp_path, hub, monkeypatch):
    torch.manual_seed(0)
    folder = cached(tmp_path / "hub", SVHN_MODEL)
    monkeypatch.setattr("grading.judges.classifiers.SvhnClassifier", EmbeddedSvhnClassifier)  # a smaller network
    torch.save(EmbeddedSvhnClassifier().state_dict(), folder / "pytorch_model.bin")
    judges = Judges({"svhn": "official"}, "cpu", hub_cache=tmp_path)
    assert judges.source("svhn").path == folder / "pytorch_model.bin"
    assert (judges["svhn"].identity.kind, judges["svhn"].identity.file) == ("official", "pytorch_model.bin")


def test_the_svhn_classifier_must_be_the_one_that_was_fetched_into_the_cache(tmp_path, own_cache, hub):
    folder = cached(tmp_path / "hub", SVHN_MODEL)
    (folder / "pytorch_model.bin").write_bytes(b"weights")
    noted = {"revision": COMMIT, "sha256": {"pytorch_model.bin": hashlib.sha256(b"weights").hexdigest()}}
    (tmp_path / "revisions.json").write_text(json.dumps({SVHN_MODEL: noted}))
    (cached(tmp_path / "hub", SVHN_MODEL, NEWER) / "pytorch_model.bin").write_bytes(b"newer weights")
    assert Judges({"svhn": "official"}, hub_cache=tmp_path).source("svhn").path == folder / "pytorch_model.bin"
    (folder / "pytorch_model.bin").write_bytes(b"other weights")
    with pytest.raises(GradingError, match=r"pytorch_model\.bin of edadaltocg/resnet34_svhn is not the recorded file"):
        Judges({"svhn": "official"}, hub_cache=tmp_path).source("svhn")


def test_a_cache_that_lost_the_svhn_classifier_still_says_which_one_it_was(tmp_path, own_cache, hub):
    noted = {"revision": COMMIT, "sha256": {"pytorch_model.bin": hashlib.sha256(b"weights").hexdigest()}}
    (tmp_path / "revisions.json").write_text(json.dumps({SVHN_MODEL: noted}))
    (cached(own_cache, SVHN_MODEL) / "pytorch_model.bin").write_bytes(b"other weights")
    with pytest.raises(GradingError, match=r"pytorch_model\.bin of edadaltocg/resnet34_svhn is not the recorded file"):
        Judges({"svhn": "official"}, hub_cache=tmp_path).source("svhn")
    assert Judges({"svhn": "official"}).source("svhn").path.read_bytes() == b"other weights"


def test_a_download_that_is_not_the_recorded_model_is_refused(own_cache, hub):
    hub[0].update(dict.fromkeys(("config.json", "vocab.json", "merges.txt", "pytorch_model.bin"), b"{}"))
    hub[0]["preprocessor_config.json"] = b"{}"
    with pytest.raises(GradingError, match=r"of openai/clip-vit-base-patch32 is not the recorded file"):
        Judges({"clip": "official"}).source("clip")


def test_what_no_cache_has_is_downloaded_with_one_file_of_weights(own_cache, hub, monkeypatch):
    monkeypatch.setattr("grading.environment.hub_models.HUB_MODELS", ())  # whose digests these files do not have
    served, asked = hub
    names = ("config.json", "preprocessor_config.json", "vocab.json", "merges.txt", "pytorch_model.bin", "tf_model.h5")
    served.update(dict.fromkeys(names, b"{}"))
    found = Judges({"clip": "official"}).source("clip")
    assert found.path.is_relative_to(own_cache)
    assert {path.name for path in found.path.iterdir()} == set(names) - {"tf_model.h5"}
    assert asked[-2:] == ["model.safetensors", "pytorch_model.bin"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("svhn", "give its pytorch_model.bin as a file, or choose the embedded judges, whose scores are not"),
        ("clip", "give a folder with its files, or choose the embedded judges, whose scores are not"),
        ("sam", "give a folder with its files$"),
    ],
)
def test_a_hub_that_cannot_be_reached_is_one_sentence_with_both_remedies(hub, name, said):
    with pytest.raises(GradingError, match=said) as error:
        Judges({name: "official"}).source(name)
    assert "could not be downloaded (no route to host); connect to the network" in str(error.value)
    assert error.value.option == JUDGES[name].option


def test_another_model_of_the_hub_is_no_official_one(tmp_path, hub, monkeypatch):
    save_tiny_clip(cached(tmp_path / "hub", "someone/clip"))
    assert Judges({"clip": "someone/clip"}, hub_cache=tmp_path).source("clip").kind == "custom"
    record(monkeypatch, save_tiny_clip(cached(tmp_path / "hub", CLIP_MODEL)))
    assert Judges({"clip": CLIP_MODEL}, hub_cache=tmp_path).source("clip").kind == "official"


def test_there_is_no_embedded_sam():
    with pytest.raises(
        GradingError, match="there is no embedded SAM2 model; choose the official one, or give"
    ) as error:
        Judges({"sam": "embedded"}).source("sam")
    assert error.value.option == "sam"
    assert SAM_MODEL not in str(error.value)


def test_files_of_this_machine_are_checked_before_anything_is_downloaded(tmp_path, hub):
    judges = Judges({"svhn": "official", "clip": str(tmp_path / "none")})
    with pytest.raises(GradingError, match="none is not a CLIP model"):
        judges.sources(["svhn", "clip"])
    assert hub[1] == []


@pytest.mark.parametrize("name", ["mnistm", "svhn"])
def test_a_classifier_that_is_no_file_is_said(tmp_path, name):
    for path, said in ((tmp_path / "none", "is missing"), (tmp_path, "is a folder")):
        with pytest.raises(GradingError, match=f"the {name} classifier .* {said}; expected") as error:
            Judges({name: str(path)}).source(name)
        assert error.value.option == JUDGES[name].option
