"""The links of the download script: those that no download without a login can fetch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from grading.causes.downloads import wrong_link
from grading.causes.links import LINK
from grading.environment.probes import Page
from grading.preflight.own_code import DOWNLOAD, HandIn, Line

Answer = tuple[Literal["fail", "warning"], str]


@dataclass(frozen=True)
class Form:
    """A form of links that cannot be fetched. pattern: of a whole line; unless: of a line where it can be."""

    pattern: str
    unless: str
    status: Literal["fail", "warning"]
    sentence: str


FORMS = (
    Form(r"drive\.google\.com/drive/(u/\d+/)?folders", r"--folder", "fail",
         "has the link of a folder on Google Drive. Link each file, or add --folder to gdown."),
    Form(r"drive\.google\.com/file/d/.*/view", r"--fuzzy|wget|curl", "fail",
         "has the link of a page that shows the file. Add --fuzzy to gdown, or write gdown FILE_ID."),
    Form(r"(wget|curl).*drive\.google\.com/(file|open|drive)", r"^$", "fail",
         "fetches a page that shows the file, not the file. Use gdown FILE_ID."),
    Form(r"docs\.google\.com/(document|presentation|spreadsheets)", r"/export", "fail",
         "has the link of a document. Upload the file to Google Drive, and use gdown FILE_ID."),
    Form(r"(wget|curl).*(docs|drive)\.google\.com/uc", r"confirm=", "warning",
         "gets a page of Google's in place of a file above 100 MB. Use gdown FILE_ID."),
    Form(r"sharepoint\.com|onedrive\.live\.com|1drv\.ms", r"download=1|/download|resid=.*authkey=", "fail",
         "has a link of OneDrive that shows a page or asks for a login. Use Google Drive and gdown, or Dropbox."),
    Form(r"dropbox\.com/", r"dl=1|raw=1|dl\.dropboxusercontent", "fail",
         "has a link of Dropbox that shows a page. Write dl=1 at its end."),
    Form(r"github\.com/[^/]+/[^/]+/blob/", r"raw=(true|1)", "fail",
         "has the link of a page of GitHub. Use the link of its Raw button."),
    Form(r"huggingface\.co/.*/blob/", r"^$", "fail", "has the link of a page. Write /resolve/ in place of /blob/."),
    Form(r"gdown\s.*(?<!//)\b(drive|docs)\.google\.com", r"https?://", "fail", "has a link without https://."),
)  # fmt: skip
"""Forms of links, by what their hosts answer."""

MAX_ASKED = 10
"""Links that are asked."""


def download_links(handin: HandIn) -> Iterator[Answer]:
    """The lines of the download script, against FORMS."""
    for line in handin.lines(DOWNLOAD):
        for form in FORMS:
            if re.search(form.pattern, line.text) and not re.search(form.unless, line.text):
                yield form.status, f"{line.where} {form.sentence}"
                break


def asked_links(handin: HandIn) -> list[tuple[Line, str]]:
    """The links of the download script with their lines, files of Google Drive by their id; at most MAX_ASKED."""
    found: dict[str, Line] = {}
    for line in handin.lines(DOWNLOAD):
        ids = re.findall(r"(?:gdown|drive\.(?:\w+\.)?google).*?\b((?:1|0B)[\w-]{24,})", line.text)
        links = [f"https://drive.google.com/uc?id={each}" for each in ids]
        for link in links or (match[0] for match in LINK.finditer(line.text)):
            found.setdefault(link, line)
    return [(line, link) for link, line in found.items()][:MAX_ASKED]


def online_links(asked: Sequence[tuple[Line, str]], pages: Sequence[Page]) -> Iterator[Answer]:
    """What hosts answered. pages: the reply to each of the links."""
    for (line, link), page in zip(asked, pages, strict=True):
        if reason := wrong_link(page):
            yield "fail", f"{line.where}: {link} {reason}."
        elif page.status != 200:
            answer = f"answers {page.status}" if page.status else f"cannot be reached from here ({page.start[:100]})"
            yield "warning", f"{line.where}: {link} {answer}. Open it in a private window of your browser."
