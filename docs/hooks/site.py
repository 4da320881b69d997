"""What the site needs beyond the pages: the API reference, the pictures, the report, and links to the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import hw2

ROOT = Path(__file__).parents[2]

API = {
    **{f"hw2.{module}": names.split() for module, names in hw2._MODULES.items()},
    "grading.core.results": [],
    "grading.problems.problem": [],
    "grading.homeworks.homework": [],
    "grading.judges": [],
}
"""Modules, and which of their names the reference has: those that `from hw2 import ..` gives. [] is all of them."""

CONTRIBUTING = ROOT / "CONTRIBUTING.md"

REPORT = ROOT / "build" / "report" / "report.html"
"""What `make report` writes. The site has it if it is there."""

EMBEDDED = (
    "[report.html](report.html)",
    '<iframe src="report.html" title="The report" style="width: 100%; height: 80vh; border: 0"></iframe>',
)

OUTSIDE = re.compile(r"(!?)\[([^\]]*)\]\(\.\./([^)\s]+)\)")
"""A link from a page to a file that is not a page."""


def on_files(files: Any, config: Any) -> Any:
    """Add the page of the API, CONTRIBUTING.md, the pictures and the report."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "api.md", content=reference()))
    files.append(File.generated(config, CONTRIBUTING.name, content=as_page(CONTRIBUTING.read_text())))
    for picture in sorted((ROOT / "fixtures" / "pictures").glob("*.png")):
        files.append(File.generated(config, f"pictures/{picture.name}", content=picture.read_bytes()))
    if REPORT.is_file():
        files.append(File.generated(config, "report.html", content=REPORT.read_bytes()))
    return files


def reference() -> str:
    """The page of the API, in the form of mkdocstrings."""
    text = "# API\n"
    for module, names in API.items():
        text += f"\n::: {module}\n"
        text += f"    options:\n      members: [{', '.join(names)}]\n" if names else ""
    return text


def as_page(markdown: str) -> str:
    """A page of the top folder, with its links as from docs/."""
    outward = re.sub(r"\]\((?!https?:|#)", "](../", markdown)
    return outward.replace("](../docs/", "](")


def on_page_markdown(markdown: str, config: Any, **_others: Any) -> str:
    """Turn links to files outside docs/ into links to the repository, or into plain text if it has no address.

    CONTRIBUTING.md is a page of the site. Where a page names the report's file, the site shows the report.
    """
    markdown = markdown.replace(f"](../{CONTRIBUTING.name})", f"]({CONTRIBUTING.name})")
    link, frame = EMBEDDED
    if REPORT.is_file():
        markdown = markdown.replace("`build/report/report.html`.\n", f"{link}.\n\n{frame}\n")

    def target(found: re.Match[str]) -> str:
        picture, text, path = found.groups()
        if picture:
            return f"![{text}](pictures/{Path(path).name})"
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path})" if config.repo_url else text

    return OUTSIDE.sub(target, markdown)
