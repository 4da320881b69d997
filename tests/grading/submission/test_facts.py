"""Facts that outlive a grading, and code that a download replaced."""

import pytest

from grading.core.results import Part, StageResult
from grading.files.take import collect_folder
from grading.submission.facts import FACTS, WEIGHTS_BYTES, Facts, facts_of, read_facts, replaced_code, write_facts

LONG = "\n".join(f"def function_{number}(value):\n    return value + {number}" for number in range(20))


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "submission"
    folder.mkdir()
    (folder / "draw.py").write_text(LONG)
    (folder / "hw2_2.sh").write_text("python3 draw.py")
    return folder


def stages(before, copy, outputs=None):
    run = StageResult("hw2_2.sh public", "pass", "", files=outputs or {}, kind="script", problem=2, part=Part.PUBLIC)
    frozen = StageResult("freeze", "pass", "", files=collect_folder(copy, None).files)
    return [StageResult("copy", "pass", "", files=before), frozen, run]


def sentences(before, copy):
    return [check.message for check in replaced_code(copy, stages(before, copy))]


def test_code_that_the_download_replaced_or_added_is_named(copy):
    before = collect_folder(copy, None).files
    (copy / "draw.py").write_text("print('newer')")
    (copy / "extra").mkdir()
    for name in ("a.py", "b.py", "c.py", "d.sh"):
        (copy / "extra" / name).write_text("x")
    assert sentences(before, copy) == [
        "hw2_download_ckpt.sh replaced 1 code file (draw.py): what ran is not what was handed in.",
        "hw2_download_ckpt.sh added 4 code files that had not been handed in (extra/a.py, extra/b.py, extra/c.py and 1 "
        "more).",
    ]


def test_weights_and_what_is_no_text_are_no_code(copy):
    before = collect_folder(copy, None).files
    (copy / "model.pt").write_bytes(b"weights")
    (copy / "packed.py").write_bytes(b"PK\0\0")
    (copy / "link.py").symlink_to("draw.py")
    assert sentences(before, copy) == []


def test_where_nothing_was_downloaded_nothing_is_said(copy):
    assert sentences(collect_folder(copy, None).files, copy) == []


def test_a_copy_that_recorded_nothing_makes_no_warning(copy):
    assert sentences({}, copy) == []


def test_facts_leave_out_staffs_files_small_files_and_short_code(copy):
    (copy / "own.pt").write_bytes(b"1" * (WEIGHTS_BYTES + 1))
    (copy / "UNet.pt").write_bytes(b"2" * (WEIGHTS_BYTES + 1))
    (copy / "small.pt").write_bytes(b"3" * WEIGHTS_BYTES)
    files = collect_folder(copy, None).files
    outputs = {"0.png": "aa", "1.png": "aa", "2.png": "bb", "3.png": "truth"}
    found = facts_of(copy, stages(files, copy, outputs), {files["UNet.pt"], "truth"})
    assert found.outputs == {"hw2_2.sh public": ["aa", "bb"]}
    assert found.weights == {"own.pt": files["own.pt"]}
    assert list(found.code) == ["draw.py"]


def test_code_in_another_layout_has_the_same_hash(copy):
    first = facts_of(copy, stages({}, copy), ()).code
    (copy / "draw.py").write_text("# mine\n" + LONG.replace("    ", "\t").replace(" + ", "+"))
    assert facts_of(copy, stages({}, copy), ()).code == first


def test_facts_are_read_as_they_were_written_and_others_are_not_read(tmp_path):
    facts = Facts({"run": ["aa"]}, {"模型.pt": "bb"}, {"a.py": "cc"})
    assert read_facts(tmp_path) is None
    write_facts(tmp_path, facts)
    assert read_facts(tmp_path) == facts
    for content in ("", "[]", '{"outputs": 1}'):
        (tmp_path / FACTS).write_text(content)
        assert read_facts(tmp_path) is None
