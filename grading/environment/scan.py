"""Lists the imports of Python files. Its own program, because a hostile file can stop the parser or end its process.

python -I scan.py reads paths from stdin, each ended by NUL, and prints one line of JSON for each file: the modules that
it must have. It imports only Python's own modules.
"""

from __future__ import annotations

import ast
import json
import os
import resource
import signal
import stat
import sys
import warnings
from collections.abc import Callable, Iterator

MAX_BYTES = 2**20
"""Larger files are skipped: nobody writes one by hand."""

SECONDS = 5
"""For one file. The kernel then ends the process, even in the middle of the parser."""

SECONDS_OF_ALL = 60
"""Processor time for all files of one process."""

MEMORY = 2**30
"""Bytes of address space."""

MISSING = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
"""Exceptions whose handler makes the imports before it optional."""


def main(answer: Callable[[bytes], object] | None = None) -> None:
    """Answer for each file in turn: its modules, unless another answer is named."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_OF_ALL, SECONDS_OF_ALL))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    for path in filter(None, sys.stdin.buffer.read().split(b"\0")):
        signal.alarm(SECONDS)
        print(json.dumps((answer or modules_of)(path)), flush=True)  # noqa: T201 - its whole purpose


def modules_of(path: bytes) -> list[str]:
    """The modules that a file imports, sorted; none if Python could not read it either."""
    try:
        return sorted(set(_needed(ast.parse(content_of(path)))))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def content_of(path: bytes) -> bytes:
    """A regular file's bytes. Raises OSError for anything else; never follows a link and never waits."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise OSError("not a small file")
        return file.read(MAX_BYTES)


def _needed(tree: ast.AST) -> Iterator[str]:
    """Modules of absolute imports, without those for type checkers and those that may fail."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0 and node.module:
                yield node.module
        else:
            waiting += _inside(node)


def _inside(node: ast.AST) -> list[ast.AST]:
    """The parts of a node in which imports must succeed."""
    if isinstance(node, ast.Try) and any(map(_catches_missing, node.handlers)):
        return [*node.orelse, *node.finalbody]
    if isinstance(node, ast.If) and _name(node.test) == "TYPE_CHECKING":
        return [*node.orelse]
    return list(ast.iter_child_nodes(node))


def _catches_missing(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or _name(kind) in MISSING for kind in kinds)


def _name(node: ast.AST) -> str:
    """The last name of NAME or of x.NAME; empty for other expressions."""
    return getattr(node, "id", "") or getattr(node, "attr", "")


if __name__ == "__main__":
    main()
