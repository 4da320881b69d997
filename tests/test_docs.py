"""What README and docs say can be typed, and where they lead, is there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from fixtures.making.rules import PAGE, rules_page
from grading.core.results import Part, ScoreLine, SubmissionResult
from grading.submission.written import write_grade
from tests.commands import ROOT
from tests.markdown import (
    FENCE,
    INDEX,
    INLINE,
    NEEDS,
    PAGES,
    Command,
    anchors,
    blocks,
    broken_link,
    commands,
    commands_of_line,
    links,
    not_printed,
    transcripts,
    typed_lines,
)  # fmt: skip
from tests.programs import every_command

COMING: set[str] = set()
"""Pages and modules that other work adds; remove each here once it is there."""

OTHERS = {
    "accelerate", "apt-get", "cd", "docker", "git", "nvidia-smi", "pip", "pre-commit", "python3", "ray", "sbatch",
    "sysctl", "torchrun",
}  # fmt: skip
"""Programs of others that the pages type. What they do cannot be checked here."""

EVERY = [command for page in PAGES for command in commands(page)]


def apps():
    from grading.cli.app import app as grading
    from hw2.__main__ import app as hw2

    return {"hw2": get_command(hw2), "hw2-grade": get_command(grading)}


@pytest.fixture(scope="module")
def programs():
    return apps()


def objection(command, programs):
    """Why a command cannot be typed as it is written; empty if it can."""
    program, *words = command.words
    program = re.sub(r"^(.venv|wheel)/bin/", "", program)
    if program in ("accelerate", "torchrun") and "-m" in words:
        program, *words = ["python", *words[words.index("-m") :]]
    if program in ("python", "python3") and words[:1] == ["-m"]:
        if words[1] not in programs:
            return "" if _is_module(words[1]) else f"there is no module {words[1]}"
        program, words = words[1], words[2:]
    if program in programs:
        return _objection_of_parser(programs[program], program, words, command.whole)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        wanted = [word for word in words if "=" not in word]
        return "" if set(wanted) <= set(targets) else f"make has no {wanted}"
    if program == "pytest":
        paths = [word for i, word in enumerate(words) if not word.startswith("-") and words[i - 1 : i] != ["-m"]]
        return "".join(f"there is no {path}" for path in paths if not (ROOT / path.split("::")[0]).exists())
    return "" if program in OTHERS else f"{program} is no program that the pages may type"


def _is_module(name):
    return name in COMING or name in ("build", "venv") or importlib.util.find_spec(name) is not None


def _objection_of_parser(command, name, words, whole):
    """What the program's own parser says: unknown commands and options, values that are no choice, missing ones."""
    context = command.context_class(command, info_name=name)
    while hasattr(command, "commands"):
        if not words:
            return "no command is named" if whole else ""
        name, *rest = words
        if name.startswith("-"):
            return _refused(command, context, words)[0]
        if name not in command.commands:
            return f"there is no command {name}"
        command, words = command.commands[name], rest
        context = command.context_class(command, info_name=name, parent=context)
    refused, values = _refused(command, context, words)
    if refused or "help" in values:
        return refused
    missing = [each.name for each in command.params if each.required and values.get(each.name) in (None, ())]
    return f"needs {missing}" if whole and missing else ""


def _refused(command, context, words):
    """The parser's sentence, empty if it has none, and the values that it read."""
    try:
        values, left, _ = command.make_parser(context).parse_args(args=list(words))
        for each in command.params:
            if isinstance(value := values.get(each.name), str) and each.param_type_name == "option":
                each.process_value(context, value)
    except Exception as error:  # the parser's own exceptions are private to typer
        return f"{type(error).__name__}: {getattr(error, 'message', error)}", {}
    return (f"nothing takes {left}" if left else ""), values


@pytest.mark.parametrize("command", EVERY, ids=str)
def test_a_command_in_the_pages_can_be_typed(command, programs):
    assert objection(command, programs) == ""


@pytest.mark.parametrize("problem", [1, 2, 3])
def test_the_scripts_of_the_reference_submission_type_what_can_be_typed(problem, programs):
    script = ROOT / "fixtures" / "submissions" / "reference" / f"hw2_{problem}.sh"
    (line,) = typed_lines("".join(each for each in script.read_text().splitlines(True) if not each.startswith("#")))
    assert line.startswith("python3 -m hw2 ")
    assert objection(Command(script.name, tuple(shlex.split(line)), whole=True), programs) == ""


def test_the_pages_have_the_commands_that_people_need():
    typed = {command.words[0].removeprefix(".venv/bin/") + " " + " ".join(command.words[1:3]) for command in EVERY}
    for start in ("make grade", "make test", "hw2 digits train", "hw2-grade cohort submissions", "hw2-grade check"):
        assert any(line.startswith(start) for line in typed), start


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hw2 digits trian --data d", "there is no command trian"),
        ("hw2 digits train --data d --outptu o", "NoSuchOption"),
        ("hw2 digits sample --output o --sampler dpm", "BadParameter"),
        ("hw2 digits sample", "needs ['output']"),
        ("hw2-grade check a b", "nothing takes ['b']"),
        ("hw2-grade cohort subs --output", "BadOptionUsage"),
        ("make tset", "make has no ['tset']"),
        (".venv/bin/python -m tests.benchmark", "there is no module tests.benchmark"),
        (".venv/bin/pytest tests/nothing.py", "there is no tests/nothing.py"),
        ("accelerate launch -m hw2 digits trian", "there is no command trian"),
        ("rm -r x", "rm is no program"),
    ],
)
def test_a_command_that_cannot_be_typed_is_found(line, said, programs):
    assert objection(Command("page", tuple(line.split()), whole=True), programs).startswith(said)


def test_a_command_goes_on_after_a_backslash_and_within_quotes():
    block = "hw2 a \\\n  --b  # said\n\npython3 -c 'x\ny' z\n"
    assert list(typed_lines(block)) == ["hw2 a   --b  # said", "python3 -c 'x\ny' z"]
    with pytest.raises(ValueError, match="does not end"):
        list(typed_lines("hw2 'a\n"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page):
    found = [broken_link(page, target) for target in links(page) if not _is_coming(page.parent / target)]
    assert [sentence for sentence in found if sentence] == []


def _is_coming(path):
    return path.name in COMING and not path.exists()


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One `mse`, 2 %\n## The_same\n## The_same\n[a](#one-mse-2-) [b](page.md#the_same-1) ![c](https://x.y/z.png)\n"
        "[d](other.md) [e](#the-same) `[f](code.md)`\n```text\n# not a heading\n[g](block.md)\n```\n"
    )
    assert anchors(page) == {"one-mse-2-", "the_same", "the_same-1"}
    assert list(filter(None, (broken_link(page, target) for target in links(page)))) == [
        "other.md: there is no such file", "#the-same: there is no such heading",
    ]  # fmt: skip


def writers(option):
    """(program, words) of each command that has the option."""
    return [(program, " ".join(words)) for program, words, names in every_command() if option in names]


def test_what_every_command_writes_is_on_the_page_of_results():
    page = (ROOT / "docs" / "results.md").read_text()
    own, solution = page.split("## What `hw2` writes")
    found = {f"{program} {words}" for program, words in writers("--output")}
    assert {"hw2 report", "hw2 digits prepare", "hw2-grade hub-cache"} <= found
    for program, words in writers("--output"):
        if program == "hw2":
            assert re.search(rf"^\|[^|]*`{words}`[^|]*\| .+ \|$", solution, re.MULTILINE), f"hw2 {words}"
        else:
            assert f"`hw2-grade {words}`" in own, words
    for program, words in writers("--neighbours"):
        assert f"`{program} {words} --neighbours" in own


def test_the_rules_are_those_of_explain():
    assert PAGE.read_text() == rules_page(), "run python -m fixtures.making.rules"


def test_readme_fits_a_screen_of_80_columns():
    lines = re.sub(r"\]\([^)]*\)", "]", (ROOT / "README.md").read_text()).splitlines()  # as it is rendered
    assert len(lines) <= 66
    assert [line for line in lines if len(line) > 84 and not line.startswith(("|", "make "))] == []


def test_the_parts_that_the_pages_name_can_be_made():
    start = re.compile(r"^(?:\.\.\.|(?:HW2_DATA=\w+ )?(?:\.venv/bin/)?python -m fixtures\.making\.regenerate) (.+)")
    lines = [
        line for page in PAGES for quoted in INLINE.findall(page.read_text()) for line in [" ".join(quoted.split())]
    ]
    named = {part for line in lines for found in start.findall(line) for part in found.split()}
    source = ast.parse((ROOT / "fixtures" / "making" / "regenerate.py").read_text())  # importing it takes 10 seconds
    (parts,) = [node.value for node in source.body if ast.unparse(getattr(node, "target", node)) == "PARTS"]
    assert {"checksums", "concept-words", "digits-split", "faces-model"} <= named
    assert named <= {key.value for key in parts.keys}


def test_a_page_with_marks_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.markdown.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\n# Needs root, a class and Slurm.\na  # x\n# y\nb \\\n c\n```\n```text\nd\n```\n"
        "```sh\ne\n# Needs root.\n```\n```\n# Takes a day.\nf\n```\n```sh\n# 需要課程的資料與 GPU。\ng\n```\n"
    )
    assert [(block.mark, block.of, block.lines) for block in blocks(page)] == [
        ("Needs", ("root", "a class", "Slurm"), ("a  # x", "b  c")),
        ("", ("",), ("e",)),
        ("Takes", ("a day",), ("f",)),
        ("需要", ("課程的資料", "GPU"), ("g",)),
    ]


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f'OWNER/REPOSITORY@v{version}"\n' in (ROOT / "docs" / "classroom" / "check.yml").read_text()


def test_ci_runs_the_command_of_readme():
    (block,) = [block for _, block in FENCE.findall((ROOT / "README.md").read_text()) if "make test" in block]
    assert block.startswith("make grade  ")
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()


def by_the_workflows():
    """The commands that the workflows run, each as its words."""
    files = (ROOT / ".github" / "workflows").glob("*.yml")
    steps = [
        step for file in files for job in yaml.safe_load(file.read_text())["jobs"].values() for step in job["steps"]
    ]
    scripts = [step.get("run", "") for step in steps] + [(ROOT / ".ci" / "run").read_text()]
    lines = [
        line for script in scripts for line in script.splitlines() if re.match(r"make |\.venv/bin/|python -m ", line)
    ]
    return [command for line in lines for command in commands_of_line(ROOT / ".github", line)]


def test_the_workflows_type_what_can_be_typed(programs):
    run = by_the_workflows()
    assert [command for command in run if objection(command, programs)] == []
    for target in ("test", "grade", "docs", "wheel-test", "test-all", "gpu-test"):
        assert ("make", target) in [command.words[:2] for command in run], f"no workflow runs make {target}"


BLOCKS = [block for page in PAGES for block in blocks(page)]


def to_type(block):
    """The lines of a block that no workflow runs, without comments."""
    run = {command.words for command in by_the_workflows()}
    lines = [line for line in block.lines if not {each.words for each in commands_of_line(ROOT, line)} <= run]
    return tuple(re.sub(r"  +# .*", "", line) for line in lines)


def runs():
    """The lines that a test must run, because their block has no mark; with the mark Takes, only at length."""
    found = {to_type(block): block for block in BLOCKS if block.mark in ("", "Takes")}
    return [
        pytest.param(lines, id=str(block), marks=[pytest.mark.long] if block.mark else [])
        for lines, block in found.items()
        if lines
    ]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.mark], ids=str)
def test_a_mark_says_what_a_block_needs(block):
    assert block.mark == "Takes" or set(block.of) <= NEEDS, f"{set(block.of) - NEEDS} is not in tests/markdown.py"


@pytest.fixture
def checkout(tmp_path):
    """The folder of a person with a checkout, an activated environment, a homework beside it, and a graded class."""
    folder = tmp_path / "checkout"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("fixtures", "hw2", "grading", "docs", "Makefile", "pyproject.toml", "constraints.txt"):
        (folder / name).symlink_to(ROOT / name)
    modules = {
        "hw2": "-m hw2",
        "hw2-grade": "-m grading",
        "torchrun": "-m torch.distributed.run",
        "python": "",
        "python3": "",
    }
    for name, module in modules.items():
        program = folder / ".venv" / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        program.chmod(0o755)
    shutil.copytree(ROOT / "fixtures" / "submissions" / "reference", tmp_path / "my-homework")
    graded = folder / "graded" / "students" / "NAME"
    graded.mkdir(parents=True)
    lines = [ScoreLine(1, Part.WHOLE, "simple", "score", "Digits", 7.5, 7.5, "pass", "Good.")]
    write_grade(graded, SubmissionResult("NAME", "pass", 7.5, 7.5, 0, lines=lines))
    return folder


def type_in(folder, script):
    """Type lines into a shell that has the environment of the folder activated."""
    path = f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}"
    variables = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120", "PATH": path}
    return subprocess.run(["bash", "-ec", script], capture_output=True, text=True, cwd=folder, env=variables)


@pytest.mark.parametrize("lines", runs())
def test_a_block_without_a_mark_runs(lines, checkout):
    programs = {Path(command.words[0]).name for line in lines for command in commands_of_line(ROOT, line)}
    others = programs & OTHERS - {"cd", "python3", "torchrun"}
    assert not others, f"the tests run no {others}: the block needs a mark (tests/markdown.py)"
    run = type_in(checkout, "\n".join(lines))
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_digest_that_staff_compute_is_that_of_the_file(checkout):
    (block,) = [block for block in BLOCKS if "hashlib" in block.lines[0]]
    assert type_in(checkout, block.lines[0]).stdout == "True\n"
    file = checkout / "graded" / "students" / "NAME" / "grade.json"
    file.write_text(file.read_text().replace("7.5", "7.4", 1))
    assert type_in(checkout, block.lines[0]).stdout == "False\n"


SHOWN = [shown for page in PAGES for shown in transcripts(page) if not shown.command.startswith("wheel/bin/")]
"""The transcripts, without those of an installed wheel: tests/test_wheel.py has the wheel."""


@pytest.mark.parametrize("shown", SHOWN, ids=str)
def test_what_a_page_shows_is_what_is_printed(shown, checkout):
    run = type_in(checkout, shown.command)
    assert run.returncode == 0, run.stderr
    assert set(shown.lines) - {".."}
    assert not_printed(shown.lines, run.stdout) == "", run.stdout


def test_a_transcript_that_is_not_printed_is_found():
    printed = "a  \nb c\nd\n"
    assert not_printed(["a", "..", "b", "d"], printed) == ""
    assert not_printed(["b", "a"], printed) == "a"
    assert not_printed(["a", "b c d"], printed) == "b c d"


def test_the_index_has_a_transcript_for_everybody():
    assert len(list(transcripts(INDEX))) >= 7
