"""Drawing images into a folder: only those that are missing, with a progress bar, nothing left behind by a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hw2.errors import InputError
from hw2.files.output import OutputFolder, png_bytes
from hw2.progress import progress_bar

Draw = Callable[[list[str], Callable[[str], None]], Iterator[tuple[str, npt.NDArray[np.uint8]]]]
"""(names, called at every step with a note) -> (name, pixels (H, W, 3)) for each name."""


def draw_missing(
    folder: OutputFolder,
    names: Sequence[str],
    draw: Draw,
    network_calls: Callable[[int], int],
    *,
    what: str,
    file_of: Callable[[str], str] = str,
    quiet: bool = False,
) -> None:
    """Draw those of `names` whose file (file_of) the folder still misses, and keep each as a PNG.

    network_calls: number of images -> steps of the progress bar, which is labelled `what` and hidden if quiet.
    Raises InputError as `draw` and the folder do; the folder is then discarded if no file is finished.
    """
    absent = set(folder.missing())
    missing = [name for name in names if file_of(name) in absent]
    with progress_bar(what, network_calls(len(missing)), quiet=quiet) as advance:
        try:
            for name, image_u8 in draw(missing, advance):
                folder.write(file_of(name), png_bytes(image_u8))
        except InputError:
            folder.discard_if_empty()
            raise
