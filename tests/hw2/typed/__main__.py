"""`run_command("tests.hw2.typed", TEXT, ...)` runs Python in its own process: PyTorch is loaded, nothing of ours."""

import sys


def main() -> None:
    """Run the text, which finds its own arguments in sys.argv[1:], as after `python -c`."""
    del sys.argv[0]
    exec(compile(sys.argv[0], "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
