"""Run `hw2-grade` in the test's own process, for tests of what it says and writes.

Tests of streams, signals and the start of Python need a process of its own: `hw2_grade`, or `shell`.
"""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.core import TyperGroup

from grading.cli.app import app, main
from grading.core import log
from tests.commands import ROOT


class _Written(io.BytesIO):
    """Can be read after the stream that wrote to it is closed."""

    def close(self) -> None:
        pass


def grade_here(
    *arguments: object, variables: Mapping[str, str] = {}, encoding: str = "utf-8", folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """What `python -m grading ARGUMENTS` prints, and its exit status. Nothing of it stays in this process.

    encoding: of the terminal. folder: the current one.
    """
    words = ["grading", *map(str, arguments)]
    columns = TyperGroup.context_class.formatter_class.write_dl
    written = _Written(), _Written()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("default")  # for pytest they are errors
        patch.setattr("sys.argv", words)
        patch.setattr("sys.stdout", io.TextIOWrapper(written[0], encoding))
        patch.setattr("sys.stderr", io.TextIOWrapper(written[1], encoding))
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setattr("grading.cli.surroundings.heed_signals", lambda: None)
        patch.setattr(app, "rich_markup_mode", app.rich_markup_mode)
        patch.setattr(columns, "__defaults__", columns.__defaults__)
        patch.chdir(folder)
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            log.set_up()
            logging.captureWarnings(False)
    said = [each.getvalue().decode("utf-8", "surrogateescape") for each in written]
    return subprocess.CompletedProcess(words, status, *said)
