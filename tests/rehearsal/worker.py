"""`python -m tests.rehearsal.worker FILE COUNT CASE ..`: run cases, and append the row of each to FILE.

COUNT is "operations" if they are to be counted.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from tests.rehearsal.cases import CASES
from tests.rehearsal.measure import measured
from tests.rehearsal.mistakes import MISTAKES


def main(file: str, count: str, *names: str) -> None:
    """Run the cases of these names."""
    known = {**CASES, **{case.name: case for case in MISTAKES}}
    with Path(file).open("a") as rows:
        for name in names:
            rows.write(json.dumps(dataclasses.asdict(measured(known[name], count == "operations"))) + "\n")
            rows.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
