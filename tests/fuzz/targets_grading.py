"""The grader's readers."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from grading.causes.rule import Scene
from grading.causes.table import find_cause
from grading.cli.assignment_file import commented_file, read_assignment_file
from grading.core.errors import GradingError
from grading.core.pythonlog import excerpt, find_error
from grading.core.results import Check, Part, ProblemResult, StageResult, SubmissionResult
from grading.environment.hub import cached_models
from grading.environment.hub_models import HUB_MODELS, fetch_models
from grading.environment.probes import Page, Probes
from grading.environment.python import linked_folders
from grading.files.code import plain_code, read_code
from grading.files.images import STAFF, ImageRefused, read_image, read_png
from grading.files.storage import to_json
from grading.files.unpack import unpack_zip
from grading.homeworks.fall2024 import FALL2024
from grading.judges.classifiers import MnistmClassifier, load_digit_judge
from grading.judges.clip import load_clip
from grading.judges.sam import load_sam
from grading.points.staff import read_staff_file
from grading.preflight.handin import examine_handin
from grading.problems.control import read_lines
from grading.problems.prompts import read_concepts
from grading.problems.realism import load_real_digits
from grading.problems.zero_shot import grade_zero_shot, read_labels
from grading.sandbox.run import Sandbox
from grading.submission.facts import read_facts
from grading.submission.fixes import fix_submission
from grading.submission.journal import Journal
from grading.submission.near_misses import near_misses, no_commands
from grading.submission.written import DIGEST, GRADE, DamagedError, digest_of, read_grade
from tests.fuzz.engine import Target
from tests.fuzz.files import (
    as_json,
    lines,
    picture,
    pictures,
    pngs,
    safetensors,
    shared,
    staff_pictures,
    torch_files,
    write,
)  # fmt: skip
from tests.fuzz.mutate import change_json, change_png, change_safetensors, change_text, change_zip
from tests.models.tiny_clip import save_tiny_clip
from tests.models.tiny_sam import save_tiny_sam

TEXT, JSON = (change_text,), (change_json, change_text)
SCRIPT = "hw2_1.sh"
PYTHON = lines(
    "import pandas as pd", "from torch.utils import data", "def f(x: int = 3) -> None:", '    """Text."""',
    '    print(f"{x:02d}.pt", "/home/a/b", end="")', "", 'torch.load("a.pt", map_location="cuda:1")',
    "for i in range(10):", '    open(f"{i:02d}.png")', 'os.environ["CUDA_VISIBLE_DEVICES"] = "1"',
)  # fmt: skip
SHELL = lines(
    "#!/bin/bash", "# a comment", 'python3 "draw.py" --output $1', "bash more.sh", "wget https://a.b/c?d=1 -O x.pt"
)
NO_PANDAS = lines(
    "Traceback (most recent call last):", '  File "/submission/draw.py", line 1, in <module>',
    "    import pandas as pd", "ModuleNotFoundError: No module named 'pandas'",
)  # fmt: skip
LOGS = [
    NO_PANDAS,
    lines(
        "ImportError: cannot import name 'data' from 'torch.utils' (/usr/lib/x.py)", "cannot open shared object file"
    ),
    lines("draw.sh: line 3: wget: command not found"),
    lines("HTTPSConnectionPool: Max retries exceeded"),
    lines("OSError: 'openai/clip-vit-base-patch32' huggingface.co", "LocalEntryNotFoundError"),
    NO_PANDAS[:-40] + lines("PermissionError: [Errno 30] Read-only file system: '/home/a/b'"),
    lines("RuntimeError: Found no NVIDIA driver on your system."),
    lines(
        '  File "/a.py", line 7', "    x = =", "SyntaxError: invalid syntax", " 50%|####    | 5/10 [00:01<00:01, 4it/s]"
    ),
]


class Answers(Probes):
    """A machine without packages, commands, network and GPU."""

    def imports(self, asked: Any) -> dict[tuple[str, str], str]:
        return {each: f"ModuleNotFoundError: No module named '{each[0]}'" for each in asked}

    def missing_commands(self, names: Any) -> list[str]:
        return list(names)

    def cuda(self) -> str:
        return "Found no NVIDIA driver"

    def pages(self, urls: Any) -> list[Page]:
        return [Page(0, url, "Name or service not known") for url in urls]


def _submission(folder: Path) -> None:
    write(folder / "s", {SCRIPT: SHELL, "hw2_2.sh": SHELL, "more.sh": b"python3 x.py\n", "draw.py": PYTHON})
    write(
        folder / "s",
        {"requirements.txt": b"pandas>=2\ntorch\n", "hw2_download_ckpt.sh": SHELL, ".gitignore": b"*.pt\n"},
    )
    (folder / "home").mkdir(exist_ok=True)


def _causes(folder: Path) -> str:
    log = (folder / "log").read_bytes() if (folder / "log").exists() else NO_PANDAS
    found = []
    for download in (False, True):
        stage = StageResult(SCRIPT, "fail", "It failed.", log.decode(errors="replace"), exit_status=1)
        probes = Answers(Sandbox(trust=True, python=folder / "python"))
        scene = Scene(stage, folder / "s", folder / "home", {}, probes, "hw2_download_ckpt.sh")
        if cause := find_cause(scene, download):
            assert (cause.subject + cause.evidence).isprintable(), cause
            found.append(cause.rule)
    return " ".join(found)


def _log(folder: Path) -> str:
    text = (folder / "log").read_text(errors="replace")
    assert len(excerpt(text, 20)) <= 21
    error = find_error(text)
    return f"{bool(error.file)}" if error else ""


def _scripts(folder: Path) -> str:
    said = [
        *near_misses(folder / "s", SCRIPT),
        *near_misses(folder / "s", "hw2_3.sh"),
        *no_commands(folder / "s", SCRIPT),
    ]
    said += [line for fix in fix_submission(folder / "s", (SCRIPT, "hw2_3.sh")) for line in (fix.done, *fix.diff)]
    assert all(map(str.isprintable, said)), said
    return f"{len(said[:9])}"


def _handin(folder: Path) -> str:
    found = examine_handin(folder / "s", FALL2024).findings
    assert all(finding.sentence.isprintable() for finding in found), found
    return " ".join(sorted({finding.check for finding in found if finding.status != "pass"}))


def _code(folder: Path) -> str:
    text = read_code(folder, "x.py")
    return "" if text is None else f"{bool(plain_code('x.py', text))}"


def _journal(folder: Path) -> str:
    journal = Journal(folder / "journal.jsonl", "f", ["numpy==2"])
    assert all(isinstance(stage, StageResult) for stage in journal.done.values())
    journal.add(StageResult("fetch", "pass", "It ended."))
    assert Journal(folder / "journal.jsonl", "f", ["numpy==2"]).has("fetch")
    return f"{len(journal.done)}"


STAGES = [StageResult("copy", "pass", "Copied."), StageResult(SCRIPT, "fail", "é", "log\n", files={"0.png": "0" * 64})]


def _journal_file() -> list[bytes]:
    first = json.dumps({"fingerprint": "f", "packages": ["numpy==1"]}), json.dumps({"fingerprint": "f", "packages": []})
    return [lines(line, *(to_json(stage).decode() for stage in STAGES)) for line in first]


def _results() -> list[bytes]:
    scored = ProblemResult(1, Part.PUBLIC, "digits", "Problem 1", "pass", checks=[Check("a", "warning", "b")])
    return [to_json(SubmissionResult("a", "pass", 1.5, 2, 0, stages=STAGES, results=[scored], record={"a": [1]}))]


def _result(folder: Path) -> str:
    """As somebody would change it who knows how the digest is computed."""
    path = folder / GRADE
    with suppress(ValueError, RecursionError):
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            content.pop(DIGEST, None)
            path.write_text(json.dumps(content | {DIGEST: digest_of(content)}))
    result = read_grade(folder)
    assert result is not None
    return f"{len(result.stages)}"


def _facts() -> list[bytes]:
    return as_json({"outputs": {"a": ["0" * 64]}, "weights": {"x.pt": "1"}, "code": {"x.py": "2"}}, {})


def _json(name: str, read: Callable[[Path], object], seeds: Callable[[], list[bytes]]) -> Target:
    return Target(name, "a.json", lambda folder: read(folder / "a.json"), seeds, JSON, (GradingError,))


def _digits(folder: Path) -> None:
    write(folder / "data", {f"{i}.png": picture() for i in range(3)})


def _digit_judge(suffix: str) -> Target:
    def seeds() -> list[bytes]:
        weights = MnistmClassifier().state_dict()
        plain = {name: value.clone() for name, value in weights.items()}
        if suffix == ".safetensors":
            return [safetensors(plain), *shared("words/*.safetensors")]
        return torch_files(plain, {"state_dict": plain}, [1, torch.ones(2)])

    def read(folder: Path) -> None:
        load_digit_judge("mnistm", folder / f"Classifier{suffix}")

    kinds = (change_safetensors,) if suffix == ".safetensors" else (change_zip,)
    return Target(f"classifier{suffix}", f"Classifier{suffix}", read, seeds, kinds, (GradingError,))


def _model_file(judge: str, name: str, load: Any, save: Any, inputs: int) -> Target:
    """A file of a judge's folder of transformers."""
    kinds = (change_safetensors,) if name.endswith(".safetensors") else JSON

    def read(folder: Path) -> None:
        load(str(folder / judge))

    def prepare(folder: Path) -> None:
        save(folder / judge)

    return Target(f"{judge}/{name}", f"{judge}/{name}", read, None, kinds, (GradingError,), prepare, inputs)


def _zips() -> list[bytes]:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("hw2/", f"hw2/{SCRIPT}", "hw2/a/b.py", "hw2/é.pt"):
            archive.writestr(name, "" if name.endswith("/") else SHELL)
    return [content.getvalue(), *shared("*/*.zip")]


def _zip(folder: Path) -> str:
    taken = unpack_zip(folder / "hw2.zip", folder / "new" / "into")
    below = {str(path.relative_to(folder / "new" / "into")) for path in (folder / "new").rglob("*") if path.is_file()}
    assert below == set(taken.files)
    assert len(taken.refused) == (not taken.files)
    return " ".join(taken.refused)


def _hub(folder: Path) -> None:
    cached_models(folder)
    HUB_MODELS[0].snapshot(folder)


def _environment(folder: Path) -> list[Path]:
    return linked_folders(folder / "python")


SITE = "python/lib/python3.11/site-packages"
FINDER = b"from x import y\nMAPPING: dict[str, str] = {'a': '/tmp/a'}\nNAMESPACES = {'b': ['/tmp']}\n"
COMMIT = "hub/models--openai--clip-vit-large-patch14/refs/main"
CONCEPTS = {
    "0": {"src_image": "dog", "token_name": "<new1>", "prompt": ["a <new1>"], "prompt_4_clip_eval": ["a dog", "a cat"],
          "baseline": [[70, 30.5], [65, 2e1]]}
}  # fmt: skip
LABELS = {str(i): name for i, name in enumerate(("apple", "bear", "cup"))}
CONTROL = [{"source": f"source/{i}.png", "target": f"target/{i}.png", "prompt": "a circle"} for i in range(3)]

TARGETS = (
    Target("png", "a.png", lambda f: read_png(f, "a.png"), pngs, (change_png,), (ImageRefused,), shown=False),
    Target("image", "a.jpg", lambda f: read_image(f, "a.jpg"), pictures, (change_png,), (ImageRefused,), shown=False),
    Target(
        "staff-image", "a", lambda f: read_image(f, "a", STAFF), staff_pictures, (change_png,), (ImageRefused,),
        shown=False,
    ),
    _json("concepts", read_concepts, lambda: as_json(CONCEPTS)),
    _json("labels", read_labels, lambda: as_json(LABELS)),
    _json("control", read_lines, lambda: [lines(*map(json.dumps, CONTROL))]),
    Target(
        "predictions", "a.csv", lambda f: grade_zero_shot(f / "a.csv", LABELS),
        lambda: [lines("image_name,predicted_id", "0_1.png,0", "1_2.png,2", 'x/2_0.png,"1"'), *shared("predictions/*")],
        TEXT, (GradingError,),
    ),
    Target(
        "staff", "staff.csv", lambda f: read_staff_file(f / "staff.csv", FALL2024),
        lambda: [
            lines("submission,report_1,late_days,staff_fixed,settled_2", "a,3,1,yes,2", "José,,,no,", '"b c",1.5,0,,'),
            *shared("class_names/staff.csv"),
        ],
        TEXT, (GradingError,),
    ),
    Target(
        "real-digits", "train.csv", load_real_digits,
        lambda: [lines("image_name,label", "0.png,5", "1.png,0", "2.png,1"), *shared("train_csv*/digits/*/train.csv")],
        TEXT, (GradingError,), _digits,
    ),
    Target(
        "assignment", "a.toml", lambda f: read_assignment_file(f / "a.toml"),
        lambda: [
            commented_file().encode(), commented_file().replace("\n# ", "\n").replace("\nChanges", "\n#").encode(),
            lines(
                'data = "x"', "problems = [1, 3]", 'judges = "embedded"', "time_scale = 2.0", "[limits]", "seconds = 3",
                "[points]", "report = 1", "late_share_per_day = 0.5", "problem_1 = { public = 3 }",
            ),
        ],
        TEXT, (GradingError,),
    ),
    _digit_judge(".pth"),
    _digit_judge(".safetensors"),
    *(_model_file("clip", name, load_clip, save_tiny_clip, 5)
      for name in ("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json",
                   "tokenizer_config.json")),
    *(_model_file("sam", name, load_sam, save_tiny_sam, 4) for name in ("config.json", "processor_config.json")),
    Target("journal", "journal.jsonl", _journal, _journal_file, JSON, (GradingError,)),
    Target("grade.json", GRADE, _result, _results, JSON, (GradingError, DamagedError), shown=False),
    Target("facts.json", "facts.json", read_facts, _facts, JSON, ()),
    Target("log", "log", _log, lambda: LOGS, TEXT, (), inputs=300),
    Target("causes-log", "log", _causes, lambda: LOGS, TEXT, (), _submission, inputs=5),
    Target("causes-script", f"s/{SCRIPT}", _causes, lambda: [SHELL], TEXT, (), _submission, inputs=5),
    Target("causes-python", "s/draw.py", _causes, lambda: [PYTHON], TEXT, (), _submission, inputs=5),
    Target("causes-packages", "s/requirements.txt", _causes, lambda: [b"pandas"], TEXT, (), _submission, inputs=5),
    Target("scripts", f"s/{SCRIPT}", _scripts, lambda: [SHELL], TEXT, (), _submission),
    Target("handin-script", f"s/{SCRIPT}", _handin, lambda: [SHELL], TEXT, (), _submission, inputs=5),
    Target("handin-python", "s/draw.py", _handin, lambda: [PYTHON], TEXT, (), _submission, inputs=5),
    Target("handin-ignored", "s/.gitignore", _handin, lambda: [b"*.pt\n!a/[b-c]\n"], TEXT, (), _submission, inputs=5),
    Target("zip", "hw2.zip", _zip, _zips, (change_zip, change_text), (GradingError,)),
    Target("code", "x.py", _code, lambda: [PYTHON, SHELL], TEXT, ()),
    Target(
        "revisions", "revisions.json", lambda f: fetch_models(f, ()), lambda: as_json({"a/b": "0" * 40}), JSON,
        (GradingError,),
    ),
    Target("hub", COMMIT, _hub, lambda: [b"0123abc\n"], TEXT, (GradingError,)),
    Target("pth", f"{SITE}/a.pth", _environment, lambda: [b"/tmp\nimport x\n../y\n"], TEXT, ()),
    Target("finder", f"{SITE}/__editable___a.py", _environment, lambda: [FINDER], TEXT, ()),
)  # fmt: skip
