"""Drawing images into a folder: only those that are missing, with a progress bar, nothing left behind by a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hw2.errors import InputError
from hw2.files.output import OutputFolder, png_bytes
from hw2.progress import OnStep, progress_bar

if TYPE_CHECKING:
    from accelerate import PartialState

Draw = Callable[[list[str], OnStep], Iterator[tuple[str, npt.NDArray[np.uint8]]]]
"""(names, called at every step with a note and the number of images) -> (name, pixels (H, W, 3)) for each name."""


def draw_folder(
    output: Path, names: Sequence[str], settings: object, draw: Draw, steps: int, what: str, processes: PartialState
) -> None:
    """Draw all `names`, which are files of the folder `output`. Several processes share the work.

    settings: everything that the images depend on. For the others see `draw_missing`, for errors too.
    """
    main = processes.is_main_process
    with processes.main_process_first():
        folder = OutputFolder(output, names, settings, claim=main)
    mine = folder.names[processes.process_index :: processes.num_processes]
    draw_missing(folder, mine, draw, steps, what=what, quiet=not main)
    processes.wait_for_everyone()
    if main:
        folder.finish()


def draw_missing(
    folder: OutputFolder,
    names: Sequence[str],
    draw: Draw,
    steps: int,
    *,
    what: str,
    file_of: Callable[[str], str] = str,
    quiet: bool = False,
) -> None:
    """Draw those of `names` whose file (file_of) the folder still misses, and keep each as a PNG.

    steps: of each image, for the progress bar, which is labelled `what` and hidden if quiet.
    Raises InputError as `draw` and the folder do; the folder is then discarded if no file is finished.
    """
    absent = set(folder.missing())
    missing = [name for name in names if file_of(name) in absent]
    with progress_bar(what, steps * len(missing), quiet=quiet) as advance:
        try:
            for name, image_u8 in draw(missing, advance):
                folder.write(file_of(name), png_bytes(image_u8))
        except InputError:
            folder.discard_if_empty()
            raise
