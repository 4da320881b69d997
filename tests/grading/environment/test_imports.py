import os
import time

import pytest

from grading.environment.imports import MAX_CRASHES, foreign_modules, imported_modules, own_modules
from grading.environment.scan import MAX_BYTES


@pytest.fixture
def write(tmp_path):
    def write(**files):
        for name, content in files.items():
            path = tmp_path / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return write


def test_every_kind_of_absolute_import_is_found_with_the_files_that_have_it(write):
    folder = write(
        a="import torch, torchvision.transforms as T\nfrom omegaconf import OmegaConf",
        models__b="def late():\n    import torch\n    class A:\n        from PIL import Image",
    )
    assert imported_modules(folder) == {
        "PIL": ("models/b.py",),
        "omegaconf": ("a.py",),
        "torch": ("a.py", "models/b.py"),
        "torchvision.transforms": ("a.py",),
    }


def test_imports_that_need_not_succeed_are_left_out(write):
    folder = write(
        a="from . import x\nfrom ..y import z\n"
        "try:\n    import xformers\nexcept ModuleNotFoundError:\n    pass\nelse:\n    import needed_else\n"
        "try:\n    import triton\nexcept (OSError, ImportError):\n    import other\n"
        "try:\n    import apex\nexcept:\n    apex = None\n"
        "import typing\nif typing.TYPE_CHECKING:\n    import numpy\nelse:\n    import needed_type\n"
        "try:\n    import needed_try\nexcept ValueError:\n    pass\n",
    )
    assert set(imported_modules(folder)) == {"needed_else", "typing", "needed_type", "needed_try"}


def test_files_that_python_cannot_read_do_not_hide_the_others(write):
    folder = write(
        a=b"import a\x00b",
        b="print 'python 2'\nimport two",
        c=b"# -*- coding: big5 -*-\nimport cv2 # \xa4\xa4",
        d=b"\xef\xbb\xbfimport einops",
        e=b"\xff\xfei\x00m\x00",
        f=b"import wandb" + b"\n" * MAX_BYTES,
        g=b"# -*- coding: nonsense -*-\nimport nothing",
        h="import tqdm",
    )
    assert set(imported_modules(folder)) == {"cv2", "einops", "tqdm"}


@pytest.mark.parametrize(
    "bomb",
    [
        "-" * 500_000 + "1",
        "a" + "()" * 300_000,
        "(" * 90_000,
        "x = " + "1+" * 300_000 + "1",
        "if 1:\n pass\n" + "elif 1:\n pass\n" * 50_000,
    ],
    ids=[
        "signs",
        "calls",
        "brackets",
        "sums",
        "branches",
    ],  # the name of a test is handed on to every process it starts
)
def test_deep_nesting_ends_neither_the_grader_nor_the_list(write, bomb):
    assert set(imported_modules(write(a="import first", b=bomb, c="import last"))) == {"first", "last"}


def test_a_file_that_would_take_minutes_to_parse_is_given_up(write):
    began = time.monotonic()
    folder = write(a="import first", b="import a" + ".a" * 500_000, c="import last")
    assert set(imported_modules(folder)) == {"first", "last"}
    assert time.monotonic() - began < 30


def test_many_files_that_end_the_parser_do_not_start_as_many_processes(write, monkeypatch):
    from grading.environment import imports

    calls = []
    monkeypatch.setattr(imports, "_scan", lambda _folder, paths, _program: calls.append(len(paths)) or [])
    folder = write(**{f"bomb{number:03}": "" for number in range(50)})
    assert imported_modules(folder) == {}
    assert calls == [50 - crash for crash in range(MAX_CRASHES)]


def test_no_link_is_followed_and_no_pipe_is_waited_for(tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "a.py").write_text("import secret_of_staff")
    folder = tmp_path / "submission"
    folder.mkdir()
    (folder / "file.py").symlink_to(secret / "a.py")
    (folder / "folder").symlink_to(secret)
    (folder / "folder.py").mkdir()
    os.mkfifo(folder / "pipe.py")
    assert imported_modules(folder) == {}
    assert "a" not in own_modules(folder)


def test_notebooks_hidden_folders_and_installed_packages_are_not_the_submissions_code(write):
    folder = write(**{"venv__lib__site-packages__x": "import y", ".git__hook": "import z", "a": "import b"})
    (folder / "note.ipynb").write_text("import q")
    assert set(imported_modules(folder)) == {"b"}


def test_a_submissions_own_files_and_folders_are_its_modules_wherever_they_are(write):
    folder = write(**{"P3__stable-diffusion__ldm__models__unet": "", "utils": ""})
    (folder / "checkpoints").mkdir()
    assert own_modules(folder) == {"P3", "stable-diffusion", "ldm", "models", "unet", "utils"}


def test_modules_of_the_submission_are_not_foreign(write):
    folder = write(a="import ldm.util, torch.nn, my_lost_file, utils", utils="", sd__ldm__util="")
    assert set(foreign_modules(folder)) == {"torch.nn", "my_lost_file"}


def test_file_names_that_are_not_unicode_are_read(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xa4\xa4\n.py", "w") as file:
        file.write("import torch")
    ((name, files),) = imported_modules(tmp_path).items()
    assert name == "torch"
    assert os.fsencode(files[0]) == b"\xa4\xa4\n.py"


def test_a_module_in_the_submission_cannot_replace_the_parsers_own(write):
    folder = write(ast="raise SystemExit", json="raise SystemExit", a="import torch")
    assert "torch" in imported_modules(folder)
