"""What a download left in place of the file itself, named for what it is.

Download pages, errors of object stores and pointers of Git LFS are saved under the name of the file. A reader would
call them broken, or advise to load them without protection.
"""

from __future__ import annotations

import re
import zipfile
from io import BytesIO
from pathlib import Path

START = 4096
"""Bytes that show what a file is."""

MAX_LISTED = 2**30
"""Bytes of an archive whose list of contents is read."""

UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".aria2", ".!ut", ".tmp")
AGAIN = "download it again"

ADVICE = re.compile(
    r"weights_only|trust_remote_code|allow_pickle|use_safetensors|allow_dangerous|dangerously|unsafe|safe_globals"
    r"|MAX_IMAGE_PIXELS|LOAD_TRUNCATED_IMAGES|no-check-certificate|verify\s*=\s*False|insecure",
    re.IGNORECASE,
)
"""Words of the libraries' messages by which they advise to switch a protection off."""


def switches_off(message: str) -> bool:
    """Whether a library's message mentions a protection that could be switched off. It is never passed on."""
    return ADVICE.search(message) is not None


def leftover(path: Path) -> str:
    """What a file is in place of a download, as the rest of a sentence that begins with its name; "" if nothing known.

    It names only what no reader here could read, so that it may be asked before reading or after a failure.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(START)
            found = _described(path.name, start, size) or _unfinished(path)
            return found or (_archive(file) if start.startswith(b"PK") and size <= MAX_LISTED else "")
    except OSError:
        return ""


def described(content: bytes, name: str = "") -> str:
    """As `leftover`, of a file's whole content."""
    return _described(name, content[:START], len(content)) or (
        _archive(BytesIO(content)) if content.startswith(b"PK") else ""
    )


def _described(name: str, start: bytes, size: int) -> str:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = text[:START].lower()
    if not size:
        return f"is empty; {AGAIN}"
    if not start.strip(b"\0"):
        return f"begins with zeros only, as an unfinished download does; {AGAIN}"
    if text.startswith(b"version https://git-lfs.github.com/spec"):
        return "is a pointer of Git LFS, not the file itself; run git lfs pull, or download it from its page"
    if lower.startswith((b"<!doctype html", b"<html", b"<head", b"<!-- ")) or b"<html" in lower[:1024]:
        title = re.search(rb"<title>\s*([^<]{1,80})", text, re.IGNORECASE)
        shown = f" ({_printable(title[1])})" if title else ""
        return f"is a web page{shown}, not the file itself; {AGAIN}, and check the link in a browser"
    if lower.startswith((b"<?xml", b"<error>")) and b"<svg" not in lower:
        code = re.search(rb"<code>\s*([^<]{1,80})", text, re.IGNORECASE)
        shown = f" ({_printable(code[1])})" if code else ""
        return f"is an XML message of a server{shown}, not the file itself; {AGAIN}, and check the link"
    if start.startswith(b"\x1f\x8b") and not name.endswith((".gz", ".tgz")):
        return "is compressed with gzip; unpack it (gunzip)"
    if start.startswith((b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ")):
        return "is a compressed archive; unpack it"
    return ""


def _unfinished(path: Path) -> str:
    """A download that its program has not finished: by its name, or by the file that the program keeps beside it."""
    beside = path.with_name(f"{path.name}.aria2")
    if path.name.lower().endswith(UNFINISHED) or beside.exists():
        return f"is an unfinished download; {AGAIN}"
    return ""


def _archive(file: object) -> str:
    """What a zip archive is: TorchScript, other files than a PyTorch file, or cut off."""
    try:
        with zipfile.ZipFile(file) as archive:  # type: ignore[call-overload]
            names = archive.namelist()
    except Exception:  # given invalid bytes, the module raises nearly every exception of Python
        return f"is a zip archive that was cut off; {AGAIN}"
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return "is a TorchScript archive, which holds code; save its state_dict with torch.save"
    if "data.pkl" not in inner:
        return "is a zip archive of other files; unpack it and give the file inside"
    return ""


def _printable(text: bytes) -> str:
    found = " ".join(text.decode(errors="replace").split())
    return "".join(c for c in found if c.isprintable())


def leftovers_in(folder: Path) -> str:
    """The first leftover among the files of a folder, as a clause that names it; "" if none is known."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return ""
    return next((f"{path.name} {what}" for path in paths if (what := leftover(path))), "")
