import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.environment.hub import cached_models, has_model, hub_folders
from grading.environment.hub_models import HubModel
from grading.homeworks.fall2024 import FALL2024
from grading.sandbox.run import Sandbox
from grading.submission.stages import Workplace, copy_submission, fetch, run_script
from tests.grading.environment.caches import CLIP, save_model, save_place
from tests.grading.sandboxed import needs_sandbox

# as the template's ldm/modules/encoders/modules.py does when the model is built
LOAD = f"""
from transformers import CLIPTextModel, CLIPTokenizer
tokenizer = CLIPTokenizer.from_pretrained("{CLIP}")
model = CLIPTextModel.from_pretrained("{CLIP}")
print(tuple(model(**tokenizer("a", return_tensors="pt")).last_hidden_state.shape))
"""
# what transformers does for each file, without the 6 s of its import
FIND = f"""
from huggingface_hub import hf_hub_download
print(hf_hub_download("{CLIP}", "config.json").rpartition("/")[2])
"""
READERS = pytest.mark.parametrize(
    ("reader", "said"),
    [
        pytest.param(FIND, "config.json", id="the Hub's library"),
        pytest.param(LOAD, "(1, 3, 32)", id="as the template", marks=pytest.mark.long),
    ],
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A whole cache: a model of the Hub, one of torch.hub, one of clip."""
    cache = tmp_path_factory.mktemp("staff") / "cache"
    save_model(cache / "hub")
    for name in ("torch/hub/checkpoints/vgg.pth", "clip/ViT-B-32.pt"):
        (cache / name).parent.mkdir(parents=True)
        (cache / name).write_text("staff's")
    return cache


@pytest.fixture
def ran(tmp_path):
    """Runs a script after a download, and returns what it printed and how it ended."""

    def run(script: str, sandbox: Sandbox, download: str = "", program: str = "") -> tuple[int | None, str]:
        student = tmp_path / "student"
        student.mkdir()
        (student / "hw2_1.sh").write_text(script)
        (student / "load.py").write_text(program)
        if download:
            (student / "hw2_download_ckpt.sh").write_text(download)
        workplace = Workplace(tmp_path / "work")
        assert copy_submission(student, workplace).status == "pass"
        fetched = fetch(workplace, replace(sandbox, host_network=True))
        assert fetched.status == "pass", fetched
        problem = FALL2024.problem(1)
        stage = run_script(workplace, problem, problem.parts[0], {}, tmp_path / "out", sandbox)
        assert stage.status != "error", stage.message
        return stage.exit_status, stage.log

    return run


@needs_sandbox
@READERS
def test_a_script_loads_a_model_of_staffs_cache(ran, cache, reader, said):
    status, log = ran("python3 load.py", Sandbox(hub_cache=cache), program=reader)
    assert (status, log.splitlines()[-1]) == (0, said)


@needs_sandbox
@READERS
def test_without_a_cache_the_missing_model_is_told_at_once(ran, reader, said):
    status, log = ran("time -p python3 load.py", Sandbox(), program=reader)
    assert status != 0
    assert "couldn't connect" in log or "offline" in log
    assert "Retrying" not in log


@needs_sandbox
@pytest.mark.parametrize("staff", [False, True], ids=["alone", "beside staff's"])
def test_what_a_download_left_in_its_caches_is_found_by_runs(ran, cache, staff):
    download = """
    test -z "$HF_HUB_OFFLINE$TRANSFORMERS_OFFLINE" || exit 1
    mkdir -p $HF_HUB_CACHE/models--own--model $HF_HOME/more $TORCH_HOME/hub/checkpoints ~/.cache/clip
    echo own > $HF_HUB_CACHE/models--own--model/file; echo own > $HF_HOME/more/file
    echo own > $TORCH_HOME/hub/checkpoints/own.pth; echo own > ~/.cache/clip/ViT-B-32.pt
    """
    look = """
    cat $HF_HUB_CACHE/models--own--model/file $HF_HOME/more/file $TORCH_HOME/hub/checkpoints/own.pth
    cat ~/.cache/clip/ViT-B-32.pt $TORCH_HOME/hub/checkpoints/vgg.pth
    echo; cd $HF_HUB_CACHE; echo */
    """
    _, log = ran(look, Sandbox(hub_cache=cache if staff else None), download)
    model = f"models--{CLIP.replace('/', '--')}"
    if staff:
        assert log.splitlines() == ["own"] * 4 + ["staff's", f"{model}/ models--own--model/"]
    else:
        assert log.splitlines()[:4] == ["own"] * 4
        assert log.splitlines()[-1] == "models--own--model/"


@needs_sandbox
def test_a_script_cannot_change_the_cache(ran, cache):
    model = "models--openai--clip-vit-large-patch14"
    attack = f"echo x > ~/.cache/clip/ViT-B-32.pt; echo x > /hub/clip/new; rm -r /hub; rm -rf ~/.cache/*; touch {model}"
    _, log = ran(attack, Sandbox(hub_cache=cache))
    assert "Read-only file system" in log
    assert (cache / "clip" / "ViT-B-32.pt").read_text() == "staff's"
    assert has_model(cache, CLIP)


@needs_sandbox
def test_a_home_of_hostile_links_leads_to_nothing_outside(ran, cache, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside").chmod(0o777)
    download = f"ln -s {tmp_path}/outside ~/.cache; true"
    status, _ = ran("ls ~/.cache/clip", Sandbox(hub_cache=cache), download)
    assert status != 0
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("folder", ["hub", ""])
def test_trusted_code_finds_staffs_cache_and_its_users_home_stays(ran, cache, tmp_path, monkeypatch, folder):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    _, log = ran("ls -id $HF_HUB_CACHE/models--*", Sandbox(trust=True, hub_cache=cache / folder))
    number, path = log.split()
    assert int(number) == save_place(cache / "hub").stat().st_ino
    assert path.startswith("/hub/hub/models--")  # the log names the path inside
    assert not (tmp_path / "home" / ".cache" / "clip").exists()


def test_a_plain_cache_and_a_home_of_the_hub_are_caches_too(cache):
    inside = {path: str(outside.relative_to(cache)) for path, outside in hub_folders(cache).items()}
    assert inside == {"/hub/hub": "hub", "/hub/torch": "torch", "/hub/clip": "clip"}
    assert hub_folders(cache / "hub") == {"/hub/hub": cache / "hub"}
    assert hub_folders(None) == {}


def test_a_folder_without_models_is_no_cache(tmp_path):
    with pytest.raises(GradingError, match=r"holds no cached models; expected a folder with hub, torch, clip") as error:
        hub_folders(tmp_path)
    assert error.value.option == "hub_cache"


def test_a_model_is_there_if_its_main_revision_has_files(cache, tmp_path):
    assert cached_models(cache) == cached_models(cache / "hub") == [CLIP]
    assert not has_model(cache, "openai/clip-vit-base-patch32")
    copy = Path(shutil.copytree(cache, tmp_path / "cache", symlinks=True))
    model = copy / "hub" / f"models--{CLIP.replace('/', '--')}"
    shutil.rmtree(model / "blobs")  # a download that was broken off: links to nothing
    assert not has_model(copy, CLIP)
    save_model(copy / "hub", "gpt2")
    assert cached_models(copy) == ["gpt2"]
    (copy / "hub" / "models--gpt2" / "refs" / "main").write_text("another")
    assert cached_models(copy) == []


@pytest.mark.parametrize("main", [b"", b"a\0b", b"\xff\xfe", b"a" * 300, b"a/" * 3000, b"../../../.."])
def test_a_download_may_leave_anything_as_a_models_commit(tmp_path, main):
    model = save_place(tmp_path / "hub")
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_bytes(main)
    assert cached_models(tmp_path) == []
    assert HubModel(CLIP, "main", ("config.json",)).snapshot(tmp_path) is None
