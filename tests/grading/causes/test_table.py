"""Each rule on whose doing a failure was: an honest case, and a hostile one that only prints the same words."""

import http.server
import sys
import threading
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from grading.causes.downloads import download_failed
from grading.causes.rule import Scene
from grading.causes.table import RULES, blamed, find_cause
from grading.core.results import StageResult
from grading.environment.probes import Page, Probes
from grading.sandbox.run import Sandbox
from tests.grading.sandboxed import TRUSTED

FETCH = "hw2_download_ckpt.sh"
NO_PANDAS = "ModuleNotFoundError: No module named 'pandas'"
NO_HUB = "OSError: We couldn't connect to 'https://huggingface.co' to load the files"
NO_DRIVER = "RuntimeError: Found no NVIDIA driver on your system."


class Here(Probes):
    """The probes of this machine. gpu: whether it has one; it imports nothing for that."""

    gpu = False

    def cuda(self):
        return "" if self.gpu else "Found no NVIDIA driver"


class WithGpu(Here):
    gpu = True


class Offline(Here):
    """A machine whose network is down."""

    def pages(self, urls):
        return [Page(0, url, "[Errno -3] Temporary failure in name resolution") for url in urls]


class Online(Here):
    """A machine on which every link works."""

    def pages(self, urls):
        return [Page(200, url, "PK") for url in urls]


@pytest.fixture
def scene(tmp_path):
    """Makes the scene of a failed stage, from the files of a submission and the log."""

    def make(files, log, probes=Here, status="fail", **facts):
        submission, home = tmp_path / "submission", tmp_path / "home"
        home.mkdir()
        for name, text in files.items():
            path = submission / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        stage = StageResult("hw2_1.sh", status, "hw2_1.sh ended with exit status 1.", log, limit=facts.pop("limit", ""))
        found = Scene(stage, submission, home, dict.fromkeys(files, ""), probes(TRUSTED), FETCH)
        return replace(found, **facts)

    return make


def cause_of(scene, download=False):
    cause = find_cause(scene, download)
    return (cause.whose, cause.rule, cause.subject) if cause else None


# --- packages

PANDAS = {"hw2_1.sh": 'python3 draw.py "$1"', "draw.py": "import pandas as pd"}


def test_a_package_that_the_environment_lacks_is_the_machines_doing(scene):
    assert cause_of(scene(PANDAS, NO_PANDAS)) == ("machine", "package", "pandas")


def test_printing_that_a_package_is_missing_is_no_evidence_where_it_is_there(scene):
    numpy = {"draw.py": "import numpy\nprint('No module named numpy')"}
    assert cause_of(scene(numpy, "ModuleNotFoundError: No module named 'numpy'")) is None


def test_printing_the_name_of_a_missing_package_is_no_evidence_where_nothing_imports_it(scene):
    assert cause_of(scene({"draw.py": "import numpy"}, NO_PANDAS)) is None


def test_a_package_in_an_archive_of_the_submission_is_its_own(scene):
    assert cause_of(scene({**PANDAS, "pandas/__init__.py": ""}, NO_PANDAS)) is None


def test_a_module_that_nobody_knows_is_a_file_that_was_not_handed_in(scene):
    log = "ModuleNotFoundError: No module named 'my_unet'"
    assert cause_of(scene({"draw.py": "import my_unet"}, log)) == ("submission", "own file", "my_unet")


def test_a_package_that_only_the_submissions_requirements_know_is_in_doubt_the_machines_doing(scene):
    files = {"draw.py": "import rare_thing", "requirements.txt": "numpy\nrare-thing==1.0\n"}
    log = "ModuleNotFoundError: No module named 'rare_thing'"
    assert cause_of(scene(files, log)) == ("machine", "package", "rare_thing")


def test_a_module_called_by_its_name_in_a_script_counts_as_asked_for(scene):
    files = {"hw2_1.sh": "python3 -m gdown x"}
    assert cause_of(scene(files, "/usr/bin/python3: No module named gdown")) == ("machine", "package", "gdown")


def test_a_name_that_the_installed_version_lacks_is_the_machines_doing(scene):
    files = {"draw.py": "from numpy import float_power_of_old"}
    log = "ImportError: cannot import name 'float_power_of_old' from 'numpy' (/usr/lib/numpy/__init__.py)"
    assert cause_of(scene(files, log)) == ("machine", "version", "numpy")


def test_printing_that_a_name_is_missing_is_no_evidence_where_it_is_there(scene):
    files = {"draw.py": "from numpy import zeros"}
    assert cause_of(scene(files, "ImportError: cannot import name 'zeros' from 'numpy' (x)")) is None


def test_a_name_that_newer_versions_have_removed_is_the_machines_doing(scene):
    log = "AttributeError: module 'numpy' has no attribute 'float'"
    assert cause_of(scene({"draw.py": "import numpy as np; np.float"}, log)) == ("machine", "version", "numpy")


def test_a_misspelt_name_is_the_submissions_own(scene):
    log = "AttributeError: module 'numpy' has no attribute 'zeroes'"
    assert cause_of(scene({"draw.py": "import numpy as np; np.zeroes"}, log)) is None


@pytest.fixture
def environment(tmp_path):
    """An environment of our own python, with packages: one lacks another, one a library, one links outside."""
    site = tmp_path / "env" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    (tmp_path / "env" / "bin").mkdir()
    (tmp_path / "env" / "bin" / "python3").symlink_to(sys.executable)
    (tmp_path / "env" / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    (site / "detectors.py").write_text("import timm")
    (site / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    (tmp_path / "linked" / "ldm").mkdir(parents=True)
    (tmp_path / "linked" / "ldm" / "ddpm.py").write_text("import pytorch_lightning")
    (site / "ldm.pth").write_text(str(tmp_path / "linked"))
    return replace(TRUSTED, python=tmp_path / "env")


@pytest.mark.parametrize(
    ("code", "log", "subject"),
    [
        ("import detectors", "ModuleNotFoundError: No module named 'timm'", "timm"),
        ("import cv2", "ImportError: libGL.so.1: cannot open shared object file", "opencv-python"),
        ("from ldm import ddpm", "ModuleNotFoundError: No module named 'pytorch_lightning'", "pytorch-lightning"),
    ],
)
def test_a_package_of_staff_that_does_not_work_is_the_machines_doing(scene, environment, code, log, subject):
    assert cause_of(scene({"draw.py": code}, log, lambda _: Here(environment))) == ("machine", "package", subject)


def test_printing_the_error_of_a_broken_package_is_no_evidence_where_it_works(scene):
    log = "ImportError: libGL.so.1: cannot open shared object file"
    assert cause_of(scene({"draw.py": "import numpy"}, log)) is None


def test_a_program_that_python_starts_and_that_is_not_installed_is_the_machines_doing(scene):
    log = "FileNotFoundError: [Errno 2] No such file or directory: 'gdown'"
    assert cause_of(scene({"get.py": "subprocess.run(['gdown', 'x'])"}, log)) == ("machine", "command", "gdown")


def test_a_command_that_is_not_installed_is_the_machines_doing(scene):
    files = {FETCH: "gdown 1qa"}
    log = f"{FETCH}: line 1: gdown: command not found"
    assert cause_of(scene(files, log), download=True) == ("machine", "command", "gdown")


def test_printing_that_a_command_is_missing_is_no_evidence_where_it_is_there(scene):
    log = f"{FETCH}: line 1: python: command not found"
    assert cause_of(scene({FETCH: "python x.py"}, log, Online), download=True) is None


def test_a_command_that_nobody_knows_is_the_submissions_own(scene):
    assert cause_of(scene({"hw2_1.sh": "./drwa"}, "hw2_1.sh: line 1: drwa: command not found")) is None


# --- models and the network while a script runs

CLIP = {"draw.py": "model = CLIPTextModel.from_pretrained('openai/clip-vit-large-patch14')"}
CLIP_NAME = "openai/clip-vit-large-patch14"


def test_a_model_of_the_hub_without_a_cache_is_the_machines_doing(scene):
    assert cause_of(scene(CLIP, NO_HUB)) == ("machine", "hub", CLIP_NAME)


def test_a_model_that_the_cache_has_is_not(scene, tmp_path):
    snapshot = tmp_path / "cache" / "hub" / "models--openai--clip-vit-large-patch14" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    assert cause_of(scene(CLIP, NO_HUB, hub_cache=tmp_path / "cache")) is None


def test_the_templates_own_model_counts_though_no_file_of_the_submission_names_it(scene):
    log = f"OSError: Can't load tokenizer for '{CLIP_NAME}'. If you were trying to load it from huggingface.co/models"
    assert cause_of(scene({"draw.py": "import ldm"}, log)) == ("machine", "hub", CLIP_NAME)


@pytest.mark.parametrize("name", ["bert-base-uncased", "org/model"])
def test_a_model_counts_where_the_log_does_not_name_it(scene, name):
    files = {"draw.py": f"AutoModel.from_pretrained('{name}')"}
    assert cause_of(scene(files, NO_HUB)) == ("machine", "hub", name)


def test_a_model_whose_name_is_computed_is_in_doubt_the_machines_doing(scene):
    found = find_cause(scene({"draw.py": "AutoModel.from_pretrained(args.name)"}, NO_HUB))
    assert (found.whose, found.rule) == ("machine", "hub")


def test_a_folder_of_the_submission_is_no_model_of_the_hub(scene):
    files = {"draw.py": "AutoModel.from_pretrained('bert')", "bert/config.json": "{}"}
    assert cause_of(scene(files, "OSError: from_pretrained could not read it")) is None


def test_printing_the_name_of_another_model_is_no_evidence_where_no_code_loads_it(scene):
    assert cause_of(scene({"draw.py": "1"}, "huggingface.co 'some/model' couldn't connect")) is None


def test_a_download_while_a_script_runs_is_left_to_staff(scene):
    files = {"draw.py": "urlopen('https://files.example.org/w.pth')"}
    log = "urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>"
    assert cause_of(scene(files, log)) == ("machine", "network", "files.example.org")


def test_printing_that_the_network_is_down_is_no_evidence_where_no_code_asks_for_it(scene):
    assert cause_of(scene({"draw.py": "print('x')"}, "Temporary failure in name resolution")) is None


# --- GPU

CUDA = {"draw.py": "net = net.cuda()"}


@pytest.mark.parametrize(
    "log",
    [
        NO_DRIVER,
        "RuntimeError: No CUDA GPUs are available",
        "AssertionError: Torch not compiled with CUDA enabled",
        "RuntimeError: Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False.",
        "    assert torch.cuda.is_available()\nAssertionError",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).",
    ],
)
def test_a_script_without_the_gpu_that_it_needs_could_not_be_checked(scene, log):
    assert cause_of(scene(CUDA, log)) == ("machine", "gpu", "a GPU")


def test_a_checkpoint_that_was_saved_on_a_gpu_needs_one(scene):
    log = "RuntimeError: Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False."
    assert cause_of(scene({"draw.py": "torch.load('w.pth')"}, log)) == ("machine", "gpu", "a GPU")


def test_printing_that_there_is_no_gpu_is_no_evidence_where_one_works(scene):
    assert cause_of(scene(CUDA, NO_DRIVER, WithGpu, gpu=True)) is None


def test_printing_that_there_is_no_gpu_is_no_evidence_where_no_code_uses_one(scene):
    assert cause_of(scene({"draw.py": "print('Found no NVIDIA driver')"}, NO_DRIVER)) is None


def test_a_time_limit_on_the_cpu_could_not_be_checked_where_the_code_would_use_a_gpu(scene):
    assert cause_of(scene({"draw.py": "torch.cuda.is_available()"}, "", limit="seconds")) == ("machine", "gpu", "a GPU")


@pytest.mark.parametrize(
    ("code", "probes"), [("while True: pass", Here), ("torch.load('w')", Here), ("torch.cuda.init()", WithGpu)]
)
def test_a_time_limit_is_the_submissions_own_without_cuda_code_and_with_a_gpu(scene, code, probes):
    assert cause_of(scene({"draw.py": code}, "", probes, limit="seconds")) is None


# --- places to write to


def ended(scene_of, files, path, exit_status=1):
    log = f"Traceback (most recent call last):\nOSError: [Errno 30] Read-only file system: '{path}'"
    made = scene_of(files, log)
    return replace(made, stage=replace(made.stage, exit_status=exit_status))


@pytest.mark.parametrize("path", ["../debug", "/elsewhere/x.png"])
def test_a_script_that_writes_outside_its_folders_is_left_to_staff(scene, path):
    made = ended(scene, {"draw.py": f"os.makedirs('{path}')"}, path)
    assert cause_of(made) == ("machine", "read-only", path)


@pytest.mark.parametrize(
    ("code", "path", "exit_status"),
    [
        ("print('x')", "../debug", 1),
        ("os.makedirs('../debug')", "../debug", 0),
        ("open('/data/noise/x', 'w')", "/data/noise/x", 1),
        ("open(sys.argv[1])", "/output\\r", 1),
    ],
)
def test_a_read_only_place_is_no_excuse_without_such_code_or_where_the_homework_names_it(
    scene, code, path, exit_status
):
    assert cause_of(ended(scene, {"draw.py": code}, path, exit_status)) is None


# --- downloads

WGET = {FETCH: "wget -O weights.pth 'https://files.example.org/weights.pth'"}
UNRESOLVED = "wget: unable to resolve host address 'files.example.org'"


def test_a_host_that_the_grader_cannot_reach_either_is_the_machines_doing(scene):
    found = cause_of(scene(WGET, UNRESOLVED, Offline), download=True)
    assert found == ("machine", "download", "files.example.org")


def test_printing_that_a_host_is_away_is_no_evidence_where_the_grader_reaches_it(scene):
    assert cause_of(scene(WGET, UNRESOLVED, Online), download=True) is None


@pytest.mark.parametrize("link", ["http://10.1.2.3/w.pth", "https://192.168.1.7:8000/w.pth", "http://127.0.0.1/w"])
def test_a_link_to_a_private_network_is_the_submissions_own(scene, link):
    asked = scene({FETCH: f"wget {link}"}, "No route to host", Offline)
    found = cause_of(replace(asked, probes=Offline(Sandbox())), download=True)
    assert found == ("submission", "link", link)


@pytest.mark.parametrize(
    "sandbox", [Sandbox(host_network=True), Sandbox(reachable=(IPv4Network("10.0.0.0/8"),)), Sandbox(trust=True)]
)
def test_a_private_link_that_staff_allow_is_a_link_like_any_other(scene, sandbox):
    asked = scene({FETCH: "wget http://10.1.2.3/w.pth"}, "No route to host", Offline)
    found = cause_of(replace(asked, probes=Offline(sandbox)), download=True)
    assert found == ("machine", "download", "10.1.2.3")


def test_a_host_that_is_down_excuses_a_download_although_another_link_is_private(scene):
    code = "wget http://10.1.2.3/a.pth; wget https://files.example.org/w.pth"
    asked = scene({FETCH: code}, "No route to host", Offline)
    found = cause_of(replace(asked, probes=Offline(Sandbox())), download=True)
    assert found == ("machine", "download", "files.example.org")


def test_a_download_without_any_link_has_nobody_else_to_blame(scene):
    assert cause_of(scene({FETCH: f"echo '{UNRESOLVED}'; exit 4"}, UNRESOLVED, Offline), download=True) is None


@pytest.mark.parametrize(
    "line",
    [
        "gdown -O w.zip {}",
        "gdown --id {} -O w.zip",
        "gdown 'https://drive.google.com/uc?id={}' -O w.zip",
        "wget -O w.zip 'https://drive.usercontent.google.com/download?id={}&confirm=t'",
        "python3 -m gdown https://drive.google.com/file/d/{}/view?usp=sharing --fuzzy",
    ],
)
def test_files_of_google_drive_are_asked_for_by_their_id(scene, line):
    drive = {FETCH: line.format("1SqEfHJHzcZk5kMIzKVWBVJIZxIFLRwuC")}
    found = find_cause(scene(drive, "Connection timed out", Offline), download=True)
    assert (found.whose, found.subject) == ("machine", "drive.google.com")
    assert "https://drive.google.com/uc?id=1SqEfHJHzcZk5kMIzKVWBVJIZxIFLRwuC cannot be reached" in found.evidence


@pytest.mark.parametrize(
    ("line", "host"),
    [
        ("wget https://www.dropbox.com/s/1abcdefghijklmnopqrstuvwxyz012345/w.pth?dl=1", "www.dropbox.com"),
        ("python3 -c \"import gdown; gdown.download_folder(open('id').read())\"", "drive.google.com"),
        ("huggingface-cli download some/model", "huggingface.co"),
        ("curl -L http://140.112.30.1/w.pth -o w.pth", "140.112.30.1"),
    ],
)
def test_the_host_of_a_download_is_found_in_its_code(scene, line, host):
    assert cause_of(scene({FETCH: line}, "timed out", Offline), download=True) == ("machine", "download", host)


def test_code_that_the_download_script_starts_is_searched_as_well(scene):
    files = {FETCH: "python3 tools/get.py", "tools/get.py": "urlretrieve('https://files.example.org/w.pth')"}
    found = cause_of(scene(files, "timed out", Offline), download=True)
    assert found == ("machine", "download", "files.example.org")


def test_a_link_in_other_code_counts_where_the_download_script_names_none(scene):
    files = {FETCH: "python3 -m tools.get", "tools/get.py": "URL = 'https://files.example.org/w.pth'"}
    found = cause_of(scene(files, "timed out", Offline), download=True)
    assert found == ("machine", "download", "files.example.org")


PAGES = {
    "/gone.pth": (404, b"not here"),
    "/busy.pth": (503, b"later"),
    "/quota.pth": (200, b"<html>Sorry. Too many users have viewed or downloaded this file recently."),
    "/good.pth": (200, b"PK\x03\x04"),
}


@pytest.fixture
def site():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = PAGES[self.path]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("page", "whose"), [("gone", "submission"), ("busy", "machine"), ("quota", "machine"), ("good", None)]
)
def test_the_graders_own_request_decides_whose_doing_a_failed_download_is(scene, site, page, whose):
    link = f"{site}/{page}.pth"
    found = cause_of(scene({FETCH: f"wget {link}"}, "ERROR 500: whatever it prints"), download=True)
    subject = link if whose == "submission" else link.split("/")[2]
    assert found == (whose and (whose, "link" if whose == "submission" else "download", subject))


def test_a_web_page_among_the_downloaded_weights_makes_a_download_suspect_and_a_handed_in_one_does_not(scene):
    made = scene(
        {FETCH: "wget https://files.example.org/w.pth", "w.pth": "<!DOCTYPE html><html>quota"}, "", status="pass"
    )
    assert not download_failed(made)
    assert download_failed(replace(made, submitted={}))


def test_a_download_that_ended_well_and_said_nothing_is_not_suspect(scene):
    assert not download_failed(scene(WGET, "100%", status="pass"))


def test_a_pointer_of_git_lfs_could_not_be_checked(scene):
    files = {"draw.py": "", "w.pth": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"}
    assert cause_of(scene(files, "UnpicklingError")) == ("machine", "git lfs", "Git LFS")


def test_a_broken_checkpoint_is_no_pointer(scene):
    assert cause_of(scene({"draw.py": "", "w.pth": "oid sha256:00"}, "git-lfs.github.com UnpicklingError")) is None


# --- the table


def test_a_failure_of_the_machine_is_an_error_with_evidence_and_remedy(scene):
    made = scene(PANDAS, NO_PANDAS)
    stage = blamed(made.stage, find_cause(made))
    assert stage.status == "error"
    assert stage.message.endswith("The submission imports pandas, which the environment of the scripts lacks.")
    assert stage.cause.remedy == "add pandas to the environment of the scripts"


def test_a_failure_of_the_submission_stays_one(scene):
    made = scene({"draw.py": "import my_unet"}, "No module named 'my_unet'")
    assert blamed(made.stage, find_cause(made)).status == "fail"


def test_the_rules_have_names_of_their_own():
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("log", ["", "KeyError: 'unet'", "No module named ''", "No module named 'a b; import os'"])
def test_other_failures_have_no_cause(scene, log):
    assert cause_of(scene({"draw.py": "import os"}, log)) is None


def test_a_script_that_others_kept_from_the_cpus_could_not_be_checked(scene):
    made = scene({"hw2_1.sh": "python3 main.py"}, "", limit="seconds")
    assert cause_of(made) is None
    starved = replace(made, stage=replace(made.stage, seconds=900.0, cpu_seconds=12.25, cpu_lost=887.0))
    assert cause_of(starved) == ("machine", "cpu", "CPU time")
    assert "In 900.0 s it got 12.2 s of CPU time, and waited for at least 887.0 s more" in find_cause(starved).evidence
    assert "fewer workers" in find_cause(starved).remedy
    assert cause_of(replace(starved, stage=replace(starved.stage, limit="memory"))) is None


def test_a_script_stopped_for_its_gpu_memory_could_not_be_checked(scene):
    made = scene({"hw2_1.sh": "python3 main.py"}, "", limit="gpu memory")
    assert cause_of(made) == ("machine", "gpu memory", "GPU memory")
    assert "gpu_bytes" in find_cause(made).remedy
    assert cause_of(replace(made, stage=replace(made.stage, limit="memory"))) is None
