"""Downloads that failed, and files that are not what their name says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from grading.causes.links import CALLS, HUB_CALLS, LINK, NO_NETWORK
from grading.causes.rule import Scene
from grading.core.results import Cause
from grading.core.text import printable
from grading.environment.probes import Page
from grading.files.layout import files_below
from grading.files.texts import read_start
from grading.sandbox.network import is_closed

POINTER = b"version https://git-lfs.github.com/spec/v1"
DEPTH, MAX_FILES = 16, 100_000
"""Folders in folders, and files, that are searched for weights."""

WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pkl", ".zip", ".tar", ".gz")


def git_lfs_pointer(scene: Scene) -> Cause | None:
    """A file of the submission is a pointer of Git LFS: whoever cloned it did not fetch the file itself."""
    for path in _weights(scene.submission):
        if read_start(path, len(POINTER)) == POINTER:
            name = printable(str(path.relative_to(scene.submission)))
            evidence = f"{name} is a pointer of Git LFS, not the file itself."
            return Cause("machine", "git lfs", "Git LFS", evidence, "run git lfs pull in the submission's clone")
    return None


def _weights(folder: Path) -> Iterator[Path]:
    return (folder / name for name in files_below(folder, DEPTH, MAX_FILES) if name.endswith(WEIGHTS))


def _web_pages(scene: Scene) -> Iterator[str]:
    """Files of weights that the download made and that are web pages: a host that refuses for now answers with one."""
    for folder in (scene.submission, scene.home):
        for path in _weights(folder):
            name = str(path.relative_to(folder))
            new = folder != scene.submission or name not in scene.submitted
            if new and read_start(path, 512).lstrip().lower().startswith((b"<!doctype html", b"<html")):
                yield printable(name)


_QUOTA = re.compile(r"quota exceeded|too many users have (?:viewed|downloaded)", re.IGNORECASE)
_REFUSED = re.compile(r"Cannot retrieve the public link|Failed to retrieve file url|Access denied")
_LOGIN = re.compile(r"//accounts\.google\.com|//login\.|ServiceLogin")
_DRIVE = re.compile(r"(?:gdown|drive\.(?:\w+\.)?google).*?\b(?P<id>(?:1|0B)[\w-]{24,})")


def download_failed(scene: Scene) -> bool:
    """Whether a download may have failed, whatever its exit status."""
    said = any(pattern.search(scene.log) for pattern in (NO_NETWORK, _QUOTA, _REFUSED))
    return scene.stage.status == "fail" or said or any(_web_pages(scene))


def failed_download(scene: Scene) -> Cause | None:
    """A link of the download cannot be reached now, or its host refuses for now, by the grader's own requests."""
    links = list(dict.fromkeys(_links(scene)))[:MAX_LINKS]
    said = "".join(f"{name} is a web page, not a file of weights. " for name in [*_web_pages(scene)][:1])
    found = zip(links, scene.probes.pages(links) if links else (), strict=True)
    replies = [(printable(link)[:100], page, link.count("/") > MAX_SLASHES_OF_A_HOST) for link, page in found]
    private = [link for link, page, _ in replies if not page.status and _is_private(link, scene)]
    for link, page, is_file in replies:
        if link not in private and (refusal := _refusal(page, is_file)):
            evidence = f"{said}{link} {refusal}."
            return Cause("machine", "download", _host(link), evidence, AGAIN)
    for link in private:
        wrong = "is an address of a private network; share the file where everybody can download it"
        return Cause("submission", "link", link, f"{said}{link} {wrong}.")
    for link, page, is_file in replies:
        if wrong := wrong_link(page, is_file):
            return Cause("submission", "link", link, f"{said}{link} {wrong}.")
    if scene.stage.limit == "seconds" and links:
        evidence = "The download took longer than the grader waits."
        return Cause("machine", "download", _host(links[0]), evidence, AGAIN)
    return None


AGAIN = "check the network, and run again later"

MAX_LINKS = 10
"""Links of a download script that are probed."""

MAX_SLASHES_OF_A_HOST = 2
"""Slashes of a link to a host alone, such as https://huggingface.co."""


def _host(link: str) -> str:
    """The host of a link. One host that cannot be reached keeps many submissions waiting."""
    return printable(link.split("/")[2])


def _is_private(link: str, scene: Scene) -> bool:
    found = LINK.match(link)
    return found is not None and is_closed(found["host"], scene.probes.sandbox)


def _refusal(page: Page, is_file: bool) -> str:
    """Why a link cannot be downloaded at present; empty if it can, or never can."""
    if not page.status:
        return f"cannot be reached from the grading machine ({printable(page.start)[:100]})"
    if _QUOTA.search(page.start):
        return "answers that too many people have downloaded it; this passes"
    if is_file and (page.status in (401, 403, 429) or page.status >= 500):
        return f"answers {page.status} at present"
    return ""


def wrong_link(page: Page, is_file: bool = True) -> str:
    """Why a link never works; empty if it may."""
    if is_file and page.status in (404, 410):
        return f"answers {page.status}: there is no such file"
    return "asks for a login; share the file with anyone who has the link" if _LOGIN.search(page.url) else ""


def _links(scene: Scene) -> Iterator[str]:
    """The links in the code that downloads, or else in all code; without any, the hosts of the calls that download.

    Google Drive's files are asked for by their id.
    """
    first = scene.code.get(scene.download, "")
    near = [first, *(text for name, text in scene.code.items() if name in first)]
    for texts in (near, list(scene.code.values())):
        if links := [link for text in texts for link in _links_in(text)]:
            return iter(links)
    calls = {**CALLS, HUB_CALLS: "huggingface.co"}
    return (f"https://{host}" for call, host in calls.items() if any(re.search(call, text) for text in near))


def _links_in(text: str) -> Iterator[str]:
    for match in _DRIVE.finditer(text):
        yield f"https://drive.google.com/uc?id={match['id']}"
    for match in LINK.finditer(text):
        if "google" not in match["host"] or not _DRIVE.search(match[0]):
            yield match[0].rstrip(".,;&")
