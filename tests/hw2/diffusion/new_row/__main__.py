"""`hw2` with one more row in its table of samplers, which is there before any command is made."""

from hw2.diffusion.table import SAMPLERS
from tests.hw2.diffusion.new_row import HALF

SAMPLERS["half"] = HALF

from hw2.__main__ import main  # noqa: E402

__all__ = ["main"]

if __name__ == "__main__":
    main()
