"""`python -m tests.fuzz [TARGETS] --seconds 3600`: every reader for so long, each in a process of its own.

Whatever is found is written at once to build/fuzz/TARGET: log (a line every few seconds), current (the input that is
being read), and fault-N with fault-N.txt. A killed run loses nothing of that. The same seed gives the same inputs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from tests.commands import ROOT

if TYPE_CHECKING:
    from tests.fuzz.engine import Fuzzer

REPORT_EVERY = 10.0

Names = Annotated[list[str] | None, typer.Argument(help="Targets, or the beginnings of their names; default: all.")]
SecondsOption = Annotated[float, typer.Option(help="Seconds for each target.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the inputs.")]
FolderOption = Annotated[Path, typer.Option(help="Folder for logs and faults.")]
InputOption = Annotated[
    Path | None, typer.Option("--input", help="Read this one file with the target, and say what came out.")
]
InsideOption = Annotated[bool, typer.Option("--inside", hidden=True)]


def main(
    names: Names = None,
    seconds: SecondsOption = 60,
    seed: SeedOption = 0,
    folder: FolderOption = ROOT / "build" / "fuzz",
    file: InputOption = None,
    inside: InsideOption = False,
) -> None:
    """Read mutated files, and show what came out other than a reader's own error."""
    if inside or file:
        assert names
        _fuzz(names[0], seconds, seed, folder / names[0].replace("/", "_"), file)
        return
    from tests.fuzz.targets import TARGETS

    chosen = [name for name in TARGETS if not names or any(name.startswith(each) for each in names)]
    faults = sum(_in_a_process(name, seconds, seed, folder) for name in chosen)
    raise typer.Exit(1 if faults else 0)


def _in_a_process(name: str, seconds: float, seed: int, folder: Path) -> int:
    """Fuzz one target; the number of faults."""
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", seconds, "--seed", seed, "--folder", folder]
    place = folder / name.replace("/", "_")
    place.mkdir(parents=True, exist_ok=True)
    with (place / "output").open("w") as output:
        ended = subprocess.run([*map(str, command), "--inside"], cwd=ROOT, stdout=output, stderr=output, check=False)
    log = place / "log"
    last = json.loads(log.read_text().splitlines()[-1]) if log.exists() else {}
    died = "" if ended.returncode in (0, 1) else f"; the process ended with {ended.returncode} at {place}/current"
    rate = last.get("inputs", 0) / max(last.get("seconds", 1), 0.001)
    typer.echo(
        f"{name:32} {last.get('inputs', 0):9} inputs {rate:8.1f}/s {last.get('outcomes', 0):5} outcomes "
        f"{len(last.get('faults', [])):3} faults{died}"
    )
    for fault in last.get("faults", []):
        typer.echo(f"    {fault}")
    return len(last.get("faults", [])) + bool(died)


def _fuzz(name: str, seconds: float, seed: int, place: Path, file: Path | None) -> None:
    """Fuzz one target in this process."""
    from tests.fuzz.engine import Fuzzer, bounded
    from tests.fuzz.targets import TARGETS

    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        fuzzer = Fuzzer(TARGETS[name], Path(folder), seed)
        fuzzer.try_seeds()
        if file:
            fuzzer.attempt(file.read_bytes())
            for outcome in fuzzer.outcomes:
                typer.echo(f"{outcome}\n{fuzzer.faults.get(outcome, ('',))[0]}")
            return
        started = reported = time.monotonic()
        with bounded(), (place / "log").open("w") as log:
            while time.monotonic() - started < seconds:
                known = len(fuzzer.faults)
                fuzzer.step(place / "current")
                now = time.monotonic()
                if len(fuzzer.faults) > known or now - reported > REPORT_EVERY or now - started >= seconds:
                    reported = now
                    _report(fuzzer, place, log, now - started)
    raise typer.Exit(1 if fuzzer.faults else 0)


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
