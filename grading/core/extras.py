"""The packages that some commands need, and the extras of this distribution that install them."""

from __future__ import annotations

EXTRAS = {
    "judges": ("torch", "torchvision", "transformers", "tokenizers", "huggingface_hub"),
    "cohort": ("ray",),
    "gpu": ("pynvml",),
}
"""Extra -> the modules that it installs."""


def install(extra: str) -> str:
    """What to type to install an extra. No package index has this distribution, so its name is no place to find it."""
    return f"pip install '.[{extra}]' in a checkout, or pip install 'FILE.whl[{extra}]' with the file of the wheel"


def missing_package(error: BaseException) -> str:
    """For an import that failed because its extra is not installed: what to do, as a sentence without its point.

    Empty for every other exception, also for a module of this project.
    """
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    extra = next((extra for extra, modules in EXTRAS.items() if module in modules), "")
    return f"this needs {module}, which is not installed; run {install(extra)}" if extra else ""
