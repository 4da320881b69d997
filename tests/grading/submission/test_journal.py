import pytest

from grading.core.results import StageResult
from grading.submission.journal import Journal


@pytest.mark.parametrize(
    ("fingerprint", "packages", "kept"),
    [
        ("f", ["numpy==1", "pandas==2"], True),
        ("f", ["numpy==1", "omegaconf==1", "pandas==2"], True),
        ("f", ["numpy==2", "pandas==2"], False),
        ("f", ["pandas==2"], False),
        ("g", ["numpy==1", "pandas==2"], False),
    ],
)
def test_stages_are_kept_while_all_that_they_ran_with_is_there(tmp_path, fingerprint, packages, kept):
    path = tmp_path / "journal.jsonl"
    Journal(path, "f", ["numpy==1", "pandas==2"]).add(StageResult("copy", "pass", "The submission was copied."))
    assert Journal(path, fingerprint, packages).has("copy") is kept


@pytest.mark.parametrize("line", [b"", b"\n", b"[]\n", b'{"fingerprint": "f"}\n', b"{broken\n"])
def test_a_journal_without_its_first_line_begins_anew(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line + b'{"stage": "copy", "status": "pass", "message": ""}\n')
    assert not Journal(path, "f").has("copy")


@pytest.mark.parametrize("line", [b"{broken", b"\xff", b"[" * 100_000, b'{"stage": 1}', b"[]", b"9" * 5000])
def test_a_journal_with_a_damaged_line_begins_anew(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    Journal(path, "f").add(StageResult("copy", "pass", "The submission was copied."))
    path.write_bytes(path.read_bytes() + line + b"\n")
    journal = Journal(path, "f")
    assert not journal.has("copy")
    journal.add(StageResult("copy", "pass", "The submission was copied."))
    assert Journal(path, "f").has("copy")
