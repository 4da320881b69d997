"""`hw2`, whose recipes train tiny networks."""

from hw2.__main__ import main as hw2
from tests.models.tiny_recipes import TINY_RECIPES


def main() -> None:
    """Entry point, as that of `hw2`."""
    for module, preset in TINY_RECIPES:
        module.preset = preset
    hw2()


if __name__ == "__main__":
    main()
