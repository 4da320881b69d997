"""Lists what Python files import, call and name, with line numbers. Runs as a process of its own, like `scan`.

It reads paths from stdin, each ended by NUL, and prints one line of JSON for each file: its facts.
"""

from __future__ import annotations

import ast
import re
from collections import deque
from collections.abc import Iterator
from itertools import islice

from grading.environment import scan

MAX_FACTS, MAX_TEXT = 2000, 200
"""Facts of one file, and characters of one fact, that are kept."""

TEN_NAMES = re.compile(r"(.*/)?0?(%0?2?d|\{[^{}]*\})?0?\.pt", re.DOTALL)

Fact = tuple[str, int, str]
"""(kind, line, text).

import: a module, with its leading dots. from: a name of a module, as MODULE.NAME. string: a literal. default: a literal
that is the default of an option. call: the called name, a space, and its first arguments if they are literals.
visible: what CUDA_VISIBLE_DEVICES is set to. ten: a loop over range(10) makes a file name. invalid: why Python cannot
read the file.
"""


def facts_of(path: bytes) -> list[Fact]:
    """The facts of a file, at most MAX_FACTS. Empty for a file that cannot be opened or is too large."""
    try:
        found = islice(_facts(ast.parse(scan.content_of(path))), MAX_FACTS)
        return [(kind, line, text[:MAX_TEXT]) for kind, line, text in found]
    except SyntaxError as error:
        return [("invalid", error.lineno or 1, error.msg)]
    except (OSError, ValueError, RecursionError, MemoryError):
        return []


def _facts(tree: ast.AST) -> Iterator[Fact]:
    waiting = deque([(tree, False)])  # the outer ones first, because imports stand there
    while waiting:
        node, is_default = waiting.popleft()
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        yield from _facts_here(node, is_default)
        below = is_default or (isinstance(node, ast.keyword) and node.arg == "default")
        waiting += [(child, below) for child in ast.iter_child_nodes(node)]


def _facts_here(node: ast.AST, is_default: bool) -> Iterator[Fact]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield ("default" if is_default else "string", node.lineno, node.value)
    elif isinstance(node, ast.Import):
        yield from (("import", node.lineno, each.name) for each in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        yield ("import", node.lineno, module)
        yield from (("from", node.lineno, f"{module}.{each.name}") for each in node.names)
    elif isinstance(node, ast.Call):
        yield ("call", node.lineno, " ".join([_dotted(node.func), *_literals(node.args)]))
    elif isinstance(node, ast.Assign) and any(map(_is_visible_devices, node.targets)):
        yield ("visible", node.lineno, "".join(_literals([node.value])))
    elif _makes_ten_names(node):
        yield ("ten", getattr(node, "lineno", 1), "range(10)")


def _dotted(node: ast.AST) -> str:
    """The name that is called: "torch.load" of torch.load(..), "x.to" of f().x.to(..)."""
    names: list[str] = []
    while isinstance(node, ast.Attribute) and len(names) < 8:
        names.append(node.attr)
        node = node.value
    names += [node.id] if isinstance(node, ast.Name) else []
    return ".".join(reversed(names))


def _literals(nodes: list[ast.expr]) -> Iterator[str]:
    return (
        str(each.value) for each in nodes[:2] if isinstance(each, ast.Constant) and isinstance(each.value, str | int)
    )


def _is_visible_devices(target: ast.AST) -> bool:
    key = getattr(target, "slice", None)
    return isinstance(key, ast.Constant) and key.value == "CUDA_VISIBLE_DEVICES"


def _makes_ten_names(node: ast.AST) -> bool:
    """Whether a loop over range(10) makes a name such as 00.pt or 00.png from its variable."""
    loops = [node] if isinstance(node, ast.For) else getattr(node, "generators", [])
    names = {each.target.id for each in loops if isinstance(each.target, ast.Name) and _is_range_of_ten(each.iter)}
    return bool(names) and any(_is_numbered(each, names) for each in ast.walk(node))


def _is_range_of_ten(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _dotted(node.func) == "range" and ast.unparse(node) in (
        "range(10)", "range(0, 10)"
    )  # fmt: skip


def _is_numbered(node: ast.AST, names: set[str]) -> bool:
    """Whether it is "%02d.pt" or "{:02d}.pt", or an f-string whose file name is the variable alone."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return bool(TEN_NAMES.fullmatch(node.value))
    if not isinstance(node, ast.JoinedStr):
        return False
    shown = "".join(_piece(each) for each in node.values)
    return any(re.search(rf"(^|/)0?\{{{re.escape(name)}\}}\.(pt|png)$", shown) for name in names)


def _piece(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    value = getattr(node, "value", None)
    return f"{{{value.id}}}" if isinstance(value, ast.Name) else "{}"


if __name__ == "__main__":
    scan.main(facts_of)
