import os
import re
import subprocess
import sys

import pytest

from grading.files.layout import check_layout, files_below, has_files, image_names, png_names
from tests.commands import ROOT


def test_names_are_sorted_into_found_missing_and_unexpected(tmp_path):
    for name in ("01.png", "00.png", "extra.txt", ".DS_Store"):
        (tmp_path / name).touch()
    layout = check_layout(tmp_path, ["02.png", "00.png", "01.png"])
    assert layout.expected == ["00.png", "01.png", "02.png"]
    assert layout.found == ["00.png", "01.png"]
    assert layout.missing == ["02.png"]
    assert layout.unexpected == [".DS_Store", "extra.txt"]


def test_a_folder_that_does_not_exist_has_nothing(tmp_path):
    assert check_layout(tmp_path / "nowhere", ["a"]).missing == ["a"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        check_layout(tmp_path / "file", ["a"])


def test_links_and_folders_are_listed_by_name_and_not_followed(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to("/nowhere")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").touch()
    assert check_layout(tmp_path, ["a"]).unexpected == ["dangling", "loop", "sub"]


def test_names_that_are_no_text_are_listed_too(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"\xff.png"), "wb"):
        pass
    assert check_layout(tmp_path, []).unexpected == ["\udcff.png"]


def test_png_names_leaves_out_what_is_hidden_or_something_else(tmp_path):
    for name in ("b.png", "a.PNG", "._a.png", "c.jpg", ".DS_Store"):
        (tmp_path / name).touch()
    assert png_names(tmp_path) == ["a.PNG", "b.png"]


def test_layout_rules_and_results_load_without_torch_numpy_or_pil():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'numpy', 'PIL'))); from pathlib import Path; "
        "import grading.core.bounds, grading.core.results; from grading.files.layout import check_layout; "
        "sys.exit(check_layout(Path('/'), ['a.png']).missing != ['a.png'])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_grading_faces_as_a_whole_loads_no_torch_and_no_hw2():
    code = (
        "import sys; import grading.__main__, grading.problems.faces, grading.reports.terminal; "
        "sys.exit(any(m.split('.')[0] in ('torch', 'hw2') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_hw2_loads_no_grading():
    modules = list((ROOT / "hw2").rglob("*.py"))
    assert len(modules) > 50
    loads = re.compile(r"^\s*(from|import)\s+(grading|tests)\b|import_module\(.grading", re.MULTILINE)
    assert [path for path in modules if loads.search(path.read_text())] == []


def test_anything_but_a_folder_counts_as_a_file_also_a_link_and_also_deep_down(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert not has_files(tmp_path)
    assert not has_files(tmp_path / "nowhere")
    (tmp_path / "a" / "b" / "link").symlink_to("nowhere")
    assert has_files(tmp_path)
    (tmp_path / "way").symlink_to(tmp_path / "a")
    assert has_files(tmp_path / "way")


def test_what_cannot_be_listed_may_have_files(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    assert has_files(tmp_path / "file")
    assert has_files(tmp_path / "loop")


def test_regular_files_are_found_as_deep_as_asked(tmp_path):
    folder = tmp_path
    for name in "abcd":
        (folder / "z.txt").touch()
        folder = folder / name
        folder.mkdir()
    (tmp_path / "a" / "link").symlink_to("z.txt")
    (tmp_path / "way").symlink_to("a")
    every = ["a/b/c/z.txt", "a/b/z.txt", "a/z.txt", "z.txt"]
    assert files_below(tmp_path) == every
    assert files_below(tmp_path, depth=1) == every[2:]
    assert len(files_below(tmp_path, most=4)) < 4
    assert files_below(tmp_path / "nowhere") == []
    assert files_below(tmp_path / "z.txt") == []


def test_a_folder_has_the_images_of_its_endings_in_any_case(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.txt", ".d.png"):
        (tmp_path / name).touch()
    assert image_names(tmp_path, (".png", ".jpg")) == [".d.png", "a.jpg", "b.PNG"]
    assert png_names(tmp_path) == ["b.PNG"]
    assert image_names(tmp_path / "nowhere", (".png",)) == []
    with pytest.raises(NotADirectoryError):
        image_names(tmp_path / "c.txt", (".png",))
