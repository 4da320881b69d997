"""`python -m tests.fuzz [TARGETS] --seconds 3600`: every reader for so long, each in a process of its own.

Whatever is found is written at once to build/fuzz/TARGET: log (a line every few seconds), current (the input that is
being read), and fault-N with fault-N.txt. A killed run loses nothing of that. The same seed gives the same inputs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from tests.commands import ROOT
from tests.fuzz.engine import Fuzzer, Target, bounded

REPORT_EVERY = 10.0

Names = Annotated[list[str] | None, typer.Argument(help="Targets, or the beginnings of their names; default: all.")]
SecondsOption = Annotated[float, typer.Option(help="Seconds for each target.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the inputs.")]
FolderOption = Annotated[Path, typer.Option(help="Folder for logs and faults.")]
InputOption = Annotated[
    Path | None, typer.Option("--input", help="Read this one file with the target, and say what came out.")
]


def main(
    names: Names = None,
    seconds: SecondsOption = 60,
    seed: SeedOption = 0,
    folder: FolderOption = ROOT / "build" / "fuzz",
    file: InputOption = None,
) -> None:
    """Read mutated files, and show what came out other than a reader's own error."""
    from tests.fuzz.targets import TARGETS

    chosen = [target for name, target in TARGETS.items() if not names or any(map(name.startswith, names))]
    if file:
        _read_one(chosen[0], file)
        return
    faults = sum(_in_a_process(target, seconds, seed, folder / target.name.replace("/", "_")) for target in chosen)
    raise typer.Exit(1 if faults else 0)


def _in_a_process(target: Target, seconds: float, seed: int, place: Path) -> int:
    """Fuzz one target in a process that has all libraries loaded; the number of faults."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    process = multiprocessing.get_context("fork").Process(target=_fuzz, args=(target, seconds, seed, place))
    process.start()
    process.join()
    log = place / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    nothing: dict[str, Any] = {"inputs": 0, "seconds": 1, "outcomes": 0, "faults": []}
    last = json.loads(lines[-1]) if lines else nothing
    died = [f"the process ended with {process.exitcode}, see output and current"] if process.exitcode else []
    typer.echo(
        f"{target.name:44} {last['inputs']:9} inputs {last['inputs'] / last['seconds']:8.1f}/s "
        f"{last['outcomes']:5} outcomes {len(last['faults'] + died):3} faults"
    )
    for fault in last["faults"] + died:
        typer.echo(f"    {fault}")
    return len(last["faults"] + died)


def _fuzz(target: Target, seconds: float, seed: int, place: Path) -> None:
    """Fuzz one target, and keep in `place` what libraries print."""
    with (place / "output").open("w") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, (place / "log").open("w") as log:
        fuzzer = Fuzzer(target, Path(folder), seed)
        fuzzer.try_seeds()
        started = reported = now = time.monotonic()
        with bounded():
            while now - started < seconds:
                known = len(fuzzer.faults)
                fuzzer.step(place / "current")
                now = time.monotonic()
                if len(fuzzer.faults) > known or now - reported > REPORT_EVERY or now - started >= seconds:
                    reported = now
                    _report(fuzzer, place, log, now - started)


def _read_one(target: Target, file: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        fuzzer = Fuzzer(target, Path(folder))
        fuzzer.attempt(file.read_bytes())
        for outcome in fuzzer.outcomes:
            typer.echo(f"{outcome}\n{fuzzer.faults.get(outcome, ('',))[0]}")


def _report(fuzzer: Fuzzer, place: Path, log: TextIO, seconds: float) -> None:
    """Write a line, and the first input of each fault."""
    for number, (outcome, (why, content)) in enumerate(fuzzer.faults.items()):
        if not (place / f"fault-{number}").exists():
            (place / f"fault-{number}").write_bytes(content)
            (place / f"fault-{number}.txt").write_text(f"{outcome}\n{why}\n", errors="backslashreplace")
    line = {
        "inputs": fuzzer.inputs, "seconds": round(seconds, 1), "outcomes": len(fuzzer.outcomes),
        "faults": list(fuzzer.faults), "most": sorted(fuzzer.outcomes.items(), key=lambda each: -each[1])[:30],
    }  # fmt: skip
    log.write(json.dumps(line) + "\n")
    log.flush()


if __name__ == "__main__":
    typer.run(main)
