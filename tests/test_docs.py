"""What README and docs say can be typed, and where they lead, is there."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import types

import pytest
from typer.main import get_command

from fixtures.making.rules import PAGE, rules_page
from tests.commands import ROOT
from tests.markdown import FENCE, PAGES, Command, anchors, broken_link, commands, links, typed_lines
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
    program = program.removeprefix(".venv/bin/")
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


def test_every_page_is_in_the_index_and_in_the_site():
    index, site = set(links(ROOT / "docs" / "index.md")), (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or page.name in index, f"docs/index.md does not link {page.name}"
        assert f": {page.name}\n" in site, f"mkdocs.yml does not have {page.name}"
    for name in re.findall(r": ([\w.-]+\.md)$", site, re.MULTILINE):
        assert (ROOT / "docs" / name).exists() or name in COMING | {"api.md"}, name


@pytest.mark.parametrize("made", [True, False])
def test_the_first_page_of_the_site_shows_the_report_if_it_was_made(tmp_path, monkeypatch, made):
    spec = importlib.util.spec_from_file_location("site_hook", ROOT / "docs" / "hooks" / "site.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    monkeypatch.setattr(hook, "REPORT", tmp_path / "report.html")
    if made:
        (tmp_path / "report.html").write_text("the report")
    page = hook.on_page_markdown((ROOT / "docs" / "index.md").read_text(), types.SimpleNamespace(repo_url=""))
    assert page.count('<iframe src="report.html"') == page.count("](report.html)") == made
    assert page.count("`build/report/report.html`") == (not made)


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


def test_ci_runs_the_command_of_readme():
    (block,) = [block for _, block in FENCE.findall((ROOT / "README.md").read_text()) if "make test" in block]
    assert block.startswith("make grade  ")
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()


def transcripts():
    """Each command of docs/index.md, and what it is shown to print."""
    for language, block in FENCE.findall((ROOT / "docs" / "index.md").read_text()):
        if language == "console":
            for command, shown in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
                yield command, shown.splitlines()


@pytest.mark.parametrize(
    ("command", "shown"), list(transcripts()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_the_index_shows_is_what_is_printed(command, shown, tmp_path):
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    module = "grading" if "hw2-grade" in command else "hw2"
    typed = f"'{sys.executable}' -m {module} {command.split(' ', 1)[1]}"
    variables = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    run = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, cwd=tmp_path, env=variables)
    assert run.returncode == 0, run.stderr
    printed = iter([line.rstrip() for line in run.stdout.splitlines()])
    expected = [line for line in shown if line != ".."]
    assert expected
    for line in expected:  # in this order
        assert any(line == said or said.startswith(f"{line} ") for said in printed), f"{line!r} not in {run.stdout}"
