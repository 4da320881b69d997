"""What the site needs beyond the pages: the API reference, the pictures, the report, and links to the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

API = (
    "hw2.diffusion.schedule", "hw2.diffusion.samplers", "hw2.diffusion.interpolate", "hw2.diffusion.seeding",
    "hw2.faces.network", "hw2.digits.network", "grading.core.results", "grading.problems.problem",
    "grading.homeworks.homework", "grading.judges",
)  # fmt: skip

REPORT = ROOT / "build" / "report" / "report.html"
"""What `make report` writes. The site has it if it is there."""

EMBEDDED = (
    "[report.html](report.html)",
    '<iframe src="report.html" title="The report" style="width: 100%; height: 80vh; border: 0"></iframe>',
)

OUTSIDE = re.compile(r"(!?)\[([^\]]*)\]\(\.\./([^)\s]+)\)")
"""A link from a page to a file that is not a page."""


def on_files(files: Any, config: Any) -> Any:
    """Add the page of the API, the pictures and the report."""
    from mkdocs.structure.files import File

    text = "# API\n\n" + "\n\n".join(f"::: {module}" for module in API)
    files.append(File.generated(config, "api.md", content=text))
    for picture in sorted((ROOT / "fixtures" / "pictures").glob("*.png")):
        files.append(File.generated(config, f"pictures/{picture.name}", content=picture.read_bytes()))
    if REPORT.is_file():
        files.append(File.generated(config, "report.html", content=REPORT.read_bytes()))
    return files


def on_page_markdown(markdown: str, config: Any, **_others: Any) -> str:
    """Turn links to files outside docs/ into links to the repository, or into plain text if it has no address.

    Where a page names the report's file, the site shows the report.
    """
    link, frame = EMBEDDED
    if REPORT.is_file():
        markdown = markdown.replace("`build/report/report.html`.\n", f"{link}.\n\n{frame}\n")

    def target(found: re.Match[str]) -> str:
        picture, text, path = found.groups()
        if picture:
            return f"![{text}](pictures/{Path(path).name})"
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path})" if config.repo_url else text

    return OUTSIDE.sub(target, markdown)
