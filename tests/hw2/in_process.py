"""`hw2` in the test's own process, in a tenth of the time. It is not for tests of signals or of several processes."""

from __future__ import annotations

import logging
import subprocess
from contextlib import chdir

from typer.testing import CliRunner

from hw2.__main__ import app
from tests.commands import ROOT


def run_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Do what `hw2 ARGUMENTS` does, in the repository's folder. A defect is raised."""
    words = [*map(str, arguments)]
    with chdir(ROOT):
        run = CliRunner().invoke(app, words, prog_name="hw2", env={"COLUMNS": "200"}, catch_exceptions=False)
    logging.captureWarnings(False)  # the command's process would have ended with this
    return subprocess.CompletedProcess(["hw2", *words], run.exit_code, run.stdout, run.stderr)
