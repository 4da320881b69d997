"""What `make docs` builds has every page, the whole library and the report. mkdocs itself is not needed here."""

from __future__ import annotations

import ast
import importlib.util
import re
import types
from pathlib import Path

import pytest

import hw2
from tests.commands import ROOT
from tests.markdown import INDEX, links


def test_every_page_is_in_the_index_and_in_the_site():
    index, site = set(links(INDEX)), (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or page.name in index, f"docs/index.md does not link {page.name}"
        assert f": {page.name}\n" in site, f"mkdocs.yml does not have {page.name}"
    for name in re.findall(r": ([\w.-]+\.md)$", site, re.MULTILINE):
        assert (ROOT / "docs" / name).exists() or name in {"api.md", "CONTRIBUTING.md"}, name


@pytest.fixture
def hook():
    """docs/hooks/site.py, which mkdocs loads in the same way."""
    spec = importlib.util.spec_from_file_location("site_hook", ROOT / "docs" / "hooks" / "site.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    return hook


@pytest.mark.parametrize("made", [True, False])
def test_the_first_page_of_the_site_shows_the_report_if_it_was_made(hook, tmp_path, monkeypatch, made):
    monkeypatch.setattr(hook, "REPORT", tmp_path / "report.html")
    if made:
        (tmp_path / "report.html").write_text("the report")
    page = hook.on_page_markdown(INDEX.read_text(), types.SimpleNamespace(repo_url=""))
    assert page.count('<iframe src="report.html"') == page.count("](report.html)") == made
    assert page.count("`build/report/report.html`") == (not made)


def test_the_reference_has_every_name_that_the_package_gives(hook):
    modules = {entry.partition("\n")[0]: entry for entry in hook.reference().split("\n::: ")[1:]}
    named = {module: re.findall(r"\w+", entry.partition("members: ")[2]) for module, entry in modules.items()}
    assert sorted(name for names in named.values() for name in names) == sorted(hw2.__all__)
    for module, names in named.items():  # mkdocstrings reads the module's own source, and shows nothing that it imports
        source = ast.parse(Path(importlib.util.find_spec(module).origin).read_text())
        here = {getattr(target, "name", getattr(target, "id", "")) for node in source.body for target in targets(node)}
        assert set(names) <= here, module
    assert named["grading.core.results"] == []


def targets(node):
    """What a statement defines: itself, if it is a class or a function, or the names that it assigns to."""
    return getattr(node, "targets", None) or [getattr(node, "target", node)]


def test_contributing_is_a_page_whose_links_lead_on(hook):
    config = types.SimpleNamespace(repo_url="https://x.y/z")
    page = hook.on_page_markdown(hook.as_page((ROOT / "CONTRIBUTING.md").read_text()), config)
    assert "](design.md)" in page
    assert "](https://x.y/z/blob/main/tests/oracles.py)" in page
    for target in re.findall(r"\]\(([^:)]+)\)", page):
        assert (ROOT / "docs" / target).is_file(), target
    index = hook.on_page_markdown(INDEX.read_text(), config)
    assert "](CONTRIBUTING.md)" in index
    assert hook.as_page("[a](#b) [c](https://d.e) [f](docs/g.md#h)") == "[a](#b) [c](https://d.e) [f](g.md#h)"
