"""The packages that some commands need, and the extras of this distribution that install them."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from grading.core.text import printable, shortened

EXTRAS = {
    "judges": ("torch", "torchvision", "transformers", "tokenizers", "huggingface_hub"),
    "cohort": ("ray",),
    "gpu": ("pynvml",),
}
"""Extra -> the modules that it installs."""

CAUSES = 10
"""How many exceptions of a chain are looked at."""


def install(extra: str) -> str:
    """What to type to install an extra. No package index has this distribution, so its name is no place to find it."""
    return f"pip install '.[{extra}]' in a checkout, or pip install 'FILE.whl[{extra}]' with the file of the wheel"


def package_problem(error: BaseException) -> str:
    """For an import that failed because of this machine's packages: what to do, as a sentence without its point.

    The package is not installed, or it raises an exception of any type, as a torchvision does that does not fit torch.
    Empty for every other exception, also for a module of this project.
    """
    if isinstance(error, ModuleNotFoundError) and (extra := _extra(error.name)):
        return f"this needs {_top(error.name)}, which is not installed; run {install(extra)}"
    for module in () if isinstance(error, MemoryError) else _imported(error):
        if extra := _extra(module):
            found = printable(shortened(" ".join("".join(traceback.format_exception_only(error)).split()), 200))
            return (
                f"{_top(module)} cannot be imported ({found}); it may not fit the other packages: in a new "
                f"environment, run {install(extra)}"
            )
    return ""


def _imported(error: BaseException | None) -> Iterator[str | None]:
    """The modules whose import raised it or its causes, of which a few links are followed."""
    for _ in range(CAUSES):
        if error is None:
            return
        if isinstance(error, ImportError):
            yield error.name
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_name == "<module>":
                yield frame.f_globals.get("__name__")
        error = error.__cause__


def _extra(module: str | None) -> str:
    return next((extra for extra, modules in EXTRAS.items() if _top(module) in modules), "")


def _top(module: str | None) -> str:
    return (module or "").partition(".")[0]
