"""The grader's own probes of the environment that scripts run in. No submission is there while a probe runs."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.sandbox.run import OUTPUT, Limits, Sandbox, run_sandboxed
from grading.sandbox.temporary import prefix

SECONDS = 300.0
"""The time that one probe may take. Importing torch for the first time can take a minute."""

ANSWER = "answer.json"

MAX_ANSWER = 2**20
"""Bytes of an answer that are read."""

START = "import json, sys\n"

IMPORTS = """
def error(module, name):
    try:
        exec("from " + module + " import " + name if name else "import " + module)
    except BaseException as failure:
        lines = str(failure).strip().splitlines() or [""]
        return type(failure).__name__ + ": " + lines[-1]
    return ""
answer = [error(module, name) for module, name in asked]
"""

COMMANDS = """
import shutil
answer = [name for name in asked if shutil.which(name) is None]
"""

MODULES = """
import importlib.util
def absent(name):
    try:
        return importlib.util.find_spec(name) is None
    except (ImportError, AttributeError, ValueError):
        return True
answer = [name for name in asked if absent(name)]
"""

CUDA = """
try:
    import torch
    answer = "" if float(torch.ones(2, device="cuda").sum()) == 2.0 else "a sum on the GPU is wrong"
except BaseException as failure:
    answer = (str(failure).strip().splitlines() or [type(failure).__name__])[-1]
"""

LINKS = """
import urllib.error, urllib.request
def page(url):
    request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0"})
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return {"status": reply.status, "url": reply.geturl(), "start": reply.read(65536).decode("latin-1")}
    except urllib.error.HTTPError as failure:
        return {"status": failure.code, "url": url, "start": failure.read(65536).decode("latin-1")}
    except Exception as failure:
        return {"status": 0, "url": url, "start": str(getattr(failure, "reason", failure))}
answer = [page(url) for url in asked]
"""


@dataclass(frozen=True)
class Page:
    """The reply to a link. status: of HTTP, 0 if nobody replied. url: after redirections. start: its first characters,
    or why nobody replied.
    """

    status: int
    url: str
    start: str


@dataclass
class Probes:
    """Probes in the sandbox that scripts run in, with their python. Answers are kept, except those on the network."""

    sandbox: Sandbox
    known: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False)

    def imports(self, asked: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Why each (module, name) cannot be imported, "" where it can; name "" for the module itself."""
        missing = [each for each in dict.fromkeys(asked) if each not in self.known]
        if wrong := [each for each in missing if not _is_import(*each)]:
            raise ValueError(f"{wrong[0]} is not a module and a name")
        if missing:
            self.known.update(zip(missing, self._ask(IMPORTS, missing), strict=True))
        return {each: str(self.known[each]) for each in asked}

    def missing_commands(self, names: Sequence[str]) -> list[str]:
        """Those of the commands that are not installed."""
        return [str(name) for name in self._ask(COMMANDS, list(names))]

    def absent_modules(self, names: Sequence[str]) -> list[str]:
        """Those of the modules that are not there. Nothing but their packages is imported."""
        return [str(name) for name in self._ask(MODULES, list(names))]

    def cuda(self) -> str:
        """Why no CUDA operation can run, "" if one can."""
        if ("cuda", "") not in self.known:
            self.known["cuda", ""] = self._ask(CUDA, [])
        return printable(str(self.known["cuda", ""]))

    def pages(self, urls: Sequence[str]) -> list[Page]:
        """The replies to links, with the network of the download stage."""
        return [Page(int(each["status"]), each["url"], each["start"]) for each in self._ask(LINKS, urls, network=True)]

    def _ask(self, code: str, asked: Sequence[Any], network: bool = False) -> Any:
        """What the code leaves in `answer`. Raises GradingError if it leaves nothing."""
        write = f"\nwith open(sys.argv[1] + '/{ANSWER}', 'w') as file:\n    json.dump(answer, file)\n"
        text = f"{START}asked = json.loads({json.dumps(list(asked))!r})\n{code}{write}"
        with tempfile.TemporaryDirectory(prefix=prefix("probe")) as folder:
            Path(folder).chmod(0o755)
            command = ["python3", "-c", text, OUTPUT]
            limits, sandbox = Limits(seconds=SECONDS), replace(self.sandbox, hidden=())
            with run_sandboxed(
                command, submission=Path(folder), limits=limits, network=network, sandbox=sandbox
            ) as ended:
                return _answer(ended.output, ended.log)


def _is_import(module: str, name: str) -> bool:
    """Whether both are plain identifiers, so that no other code can be in them."""
    return all(map(str.isidentifier, module.split("."))) and (not name or name.isidentifier())


def _answer(output: int, log: str) -> Any:
    try:
        descriptor = os.open(ANSWER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=output)
        with os.fdopen(descriptor, "rb") as file:
            return json.loads(file.read(MAX_ANSWER))
    except (OSError, ValueError):
        last = printable((log.strip().splitlines() or ["it printed nothing"])[-1])
        raise GradingError(f"a probe of the scripts' environment failed ({last}); check its python3") from None
