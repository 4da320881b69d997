import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.environment.hub_models import HUB_MODELS, HubModel, fetch_models, is_pinned, recorded_model
from tests.commands import ROOT, run_command

COMMIT = "32bd64288804d66eefd0ccbe215aa642df71cc41"
MODEL = HubModel("someone/model", COMMIT, ("config.json", "model.safetensors"))


def downloaded(files=MODEL.files, commit=COMMIT):
    """A download that leaves these files, as the library lays them out."""

    def download(model, hub):
        folder = hub / f"models--{model.repository.replace('/', '--')}" / "snapshots" / commit
        folder.mkdir(parents=True, exist_ok=True)
        for name in files:
            (folder / name).write_text("{}")
        return folder

    return download


def quiet(_name):
    pass


def test_a_pinned_model_is_found_by_code_that_names_no_revision(tmp_path):
    from huggingface_hub import snapshot_download

    assert fetch_models(tmp_path, [MODEL], downloaded(), quiet) == {"someone/model": COMMIT}
    found = snapshot_download("someone/model", cache_dir=tmp_path / "hub", local_files_only=True)
    assert Path(found) == MODEL.snapshot(tmp_path)
    assert {each.name for each in tmp_path.iterdir() if each.is_dir()} == {"hub", "torch", "clip"}


def test_a_branch_is_recorded_as_the_commit_that_it_was(tmp_path):
    branch = HubModel("someone/other", "main", ("config.json",))
    fetch_models(tmp_path, [MODEL], downloaded(), quiet)
    fetch_models(tmp_path, [branch], downloaded(commit="b" * 40), quiet)
    empty = hashlib.sha256(b"{}").hexdigest()
    assert json.loads((tmp_path / "revisions.json").read_text()) == {
        "someone/model": {"revision": COMMIT, "sha256": dict.fromkeys(MODEL.files, empty)},
        "someone/other": {"revision": "b" * 40, "sha256": {"config.json": empty}},
    }
    assert not is_pinned(branch)


def test_a_branch_that_was_fetched_once_is_fetched_at_its_commit_again_and_must_be_the_same(tmp_path):
    branch, asked = HubModel("someone/other", "main", ("pytorch_model.bin",)), []

    def download(content, commit):
        def fetch(model, hub):
            asked.append(model.revision)
            folder = downloaded(branch.files, commit)(model, hub)
            (folder / "pytorch_model.bin").write_text(content)
            return folder

        return fetch

    fetch_models(tmp_path, [branch], download("weights", "b" * 40), quiet)
    fetch_models(tmp_path, [branch], download("weights", "b" * 40), quiet)
    assert asked == ["main", "b" * 40]
    before = (tmp_path / "revisions.json").read_bytes()
    with pytest.raises(GradingError, match=r"pytorch_model\.bin of someone/other is not the recorded file"):
        fetch_models(tmp_path, [branch], download("newer weights", "b" * 40), quiet)
    assert (tmp_path / "revisions.json").read_bytes() == before


def test_what_a_cache_recorded_counts_only_for_a_model_without_a_commit_of_ours(tmp_path):
    svhn, pinned = "edadaltocg/resnet34_svhn", "openai/clip-vit-base-patch32"
    noted = {"revision": "b" * 40, "sha256": {"pytorch_model.bin": "c" * 64}}
    (tmp_path / "revisions.json").write_text(json.dumps({svhn: noted, pinned: noted, "someone/else": noted}))
    found = recorded_model(svhn, tmp_path)
    assert (found.revision, found.sha256) == ("b" * 40, noted["sha256"])
    assert recorded_model(svhn, None).revision == "main"
    assert recorded_model(pinned, tmp_path) == recorded_model(pinned, None)
    assert is_pinned(recorded_model(pinned, None))
    assert recorded_model("someone/else", tmp_path) is None


def test_what_an_interrupted_download_left_is_not_taken_for_the_model(tmp_path):
    with pytest.raises(GradingError, match=r"without model\.safetensors"):
        fetch_models(tmp_path, [MODEL], downloaded(["config.json"]), quiet)
    assert MODEL.snapshot(tmp_path) is None
    assert not (tmp_path / "revisions.json").exists()


def test_a_cache_that_lost_a_file_does_not_have_the_model(tmp_path):
    fetch_models(tmp_path, [MODEL], downloaded(), quiet)
    snapshot = MODEL.snapshot(tmp_path)
    assert snapshot
    (snapshot / "model.safetensors").unlink()
    assert MODEL.snapshot(tmp_path) is None


def test_the_template_gets_its_tokenizer_and_text_model_at_a_fixed_commit():
    (template,) = (model for model in HUB_MODELS if model.use == "scripts")
    assert template.repository == "openai/clip-vit-large-patch14"
    assert {"tokenizer.json", "vocab.json", "merges.txt", "config.json", "model.safetensors"} <= set(template.files)
    assert is_pinned(template)


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face Hub as a download asks for."""

    content = b'{"a": 1}'

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        content = self.content
        named = re.search(r"[0-9a-f]{40}", self.path)
        commit = named[0] if named else COMMIT
        if self.path.startswith("/api/"):
            names = ["flax_model.msgpack", *(name for model in HUB_MODELS for name in model.files)]
            listing = [{"rfilename": name} for name in dict.fromkeys(names)]
            content = json.dumps({"id": "x/y", "sha": commit, "siblings": listing}).encode()
            if "/tree/" in self.path:
                tree = [{"type": "file", "path": each["rfilename"], "size": 8, "oid": "0" * 40} for each in listing]
                content = json.dumps(tree).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def environment(endpoint):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    return {**kept, "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}


def test_the_command_refuses_what_is_not_the_recorded_model(tmp_path, hub):
    ended = run_command("grading", "hub-cache", "--output", tmp_path, "--judges", env=environment(hub))
    assert ended.returncode == 2
    name = "config.json of openai/clip-vit-large-patch14 is not the recorded file"
    assert ended.stderr.splitlines()[-1].startswith(f"hw2-grade: {name}")
    assert not (tmp_path / "revisions.json").exists()


WITHOUT_DIGESTS = """
import dataclasses, sys
from grading.environment import hub_models
from grading.cli import environment_commands
environment_commands.HUB_MODELS = tuple(dataclasses.replace(model, sha256={}) for model in hub_models.HUB_MODELS)
from grading.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("options", "uses"),
    [
        (("--judges",), {"scripts", "judges"}),
        (("--sam", "--zero-shot"), {"scripts", "sam", "zero-shot"}),
    ],
)
def test_the_command_fetches_from_a_hub_only_the_files_that_are_needed(tmp_path, hub, options, uses):
    command = [sys.executable, "-c", WITHOUT_DIGESTS, "hub-cache", "--output", str(tmp_path), *options]
    ended = subprocess.run(command, env=environment(hub), capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    models = [model for model in HUB_MODELS if model.use in uses]
    commits = [model.revision if is_pinned(model) else COMMIT for model in models]
    expected = [f"{model.repository} {commit}" for model, commit in zip(models, commits, strict=True)]
    assert ended.stdout.splitlines() == expected
    for model in HUB_MODELS:
        snapshot = model.snapshot(tmp_path)
        assert (snapshot is not None) == (model in models)
        assert snapshot is None or {path.name for path in snapshot.iterdir()} == set(model.files)


def test_every_weight_that_is_fetched_at_a_commit_has_a_digest():
    for model in filter(is_pinned, HUB_MODELS):
        assert {name for name in model.files if name.endswith((".bin", ".safetensors"))} <= set(model.sha256)


WITHOUT_WAITING = "import time; time.sleep = lambda _: None; from grading.__main__ import main; main()"
"""The library waits longer after each of its tries."""


def test_without_a_network_the_command_says_so_in_one_sentence(tmp_path):
    command = [sys.executable, "-c", WITHOUT_WAITING, "hub-cache", "--output", str(tmp_path)]
    ended = subprocess.run(command, env=environment("http://127.0.0.1:9"), capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1].startswith("hw2-grade: openai/clip-vit-large-patch14 could not be fetched")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"\xff", b"[1]", b"9" * 5000, b'{"a": "b"}', b'{"a": {"revision": "b", "sha256": 1}}']
)
def test_damaged_revisions_are_those_of_no_model(tmp_path, content):
    (tmp_path / "revisions.json").write_bytes(content)
    assert fetch_models(tmp_path, ()) == {}
