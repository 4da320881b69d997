"""Autograder of the diffusion homework DLCV Fall 2024 HW2: folders of images in, official scores out."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # it takes longer to import than --help takes

    return version("dlcv-hw2")
