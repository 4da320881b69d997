"""What is ready for grading on this machine, and what staff must do before a class starts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.table import Table
from rich.text import Text

from grading.core.errors import GradingError
from grading.core.text import counted, listed, printable
from grading.environment.hub_models import HUB_MODELS
from grading.environment.packages import course_packages, known_modules
from grading.environment.probes import Probes
from grading.environment.python import check_gpu, check_python
from grading.judges import JUDGES
from grading.judges.sources import find_judge
from grading.sandbox.calls import DENIED, compiled
from grading.sandbox.cgroups import find_groups
from grading.sandbox.gpu import find_devices
from grading.sandbox.network import check_network
from grading.sandbox.nvml import total_memory, why_unmeasured
from grading.sandbox.run import run_sandboxed
from grading.submission.assignment import Assignment
from grading.submission.devices import gpu_facts, judges_device
from grading.submission.provenance import data_hashes, hardware, versions

Status = Literal["ready", "not ready", "not needed"]

STYLES = {"ready": "green", "not ready": "red", "not needed": "dim"}

TEMPLATE_MODULES = ("clip", "taming", "pytorch_lightning.utilities.distributed")
"""Modules that the template's own code imports and that not every version of their package has."""

SYSTEM = Path("/usr")
"""A folder that every sandbox can show; it stands for a submission."""

DELEGATE = "run systemd-run --user --scope -p Delegate=yes hw2-grade .., or as root, or grade with one worker"
"""How staff get control groups. One worker has no neighbours that a script could slow down."""

SAME_CARD = 0.95
"""The part of the limit that a GPU must have. A card of 20 GB has 19.99 GiB or less, because its driver keeps some."""


@dataclass(frozen=True)
class Row:
    """One thing that grading needs.

    found: what is there. remedy: what to do; empty if it is ready. blocks: without it, every submission could not be
    checked. Texts may contain names of staff's files and are safe to print.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""
    blocks: bool = False


@dataclass(frozen=True)
class Preflight:
    """All rows, in the order of CHECKS."""

    rows: tuple[Row, ...]

    @property
    def unready(self) -> list[Row]:
        """The rows that staff must see to."""
        return [row for row in self.rows if row.status == "not ready"]


def examine(assignment: Assignment, output: Path) -> Preflight:
    """Check everything that the assignment needs on this machine. output: the folder that results will be written to.

    Nothing is downloaded, and no network is loaded. Raises GradingError if the assignment itself is invalid.
    """
    return Preflight(tuple(check(assignment, output) for check in CHECKS))


def refuse_if_blocked(found: Preflight) -> None:
    """Raises GradingError if a row would make every submission "could not be checked"."""
    blocking = [row for row in found.unready if row.blocks]
    if blocking:
        first = blocking[0]
        more = f" ({counted(len(blocking) - 1, 'more problem')} above)" if blocking[1:] else ""
        raise GradingError(f"no submission could be checked: {first.name}: {first.found}; {first.remedy}{more}")


def preflight_table(rows: tuple[Row, ...] | list[Row]) -> Table:
    """The rows as a table for people."""
    table = Table(title="Preflight")
    for name in ("", "status", "found", "what to do"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row.name, Text(row.status, STYLES[row.status]), Text(row.found), Text(row.remedy))
    return table


def _sandbox(assignment: Assignment, _output: Path) -> Row:
    if assignment.trust:
        return Row("sandbox", "not needed", "the code is trusted")
    try:
        run_sandboxed(["true"], submission=SYSTEM, sandbox=replace(assignment.sandbox, hidden=(), gpu=False)).close()
    except GradingError as error:
        found, _, remedy = printable(str(error)).partition("; ")
        return Row("sandbox", "not ready", found, remedy, blocks=True)
    return Row("sandbox", "ready", f"bubblewrap {versions()['bubblewrap']} makes one")


def _network(assignment: Assignment, _output: Path) -> Row:
    """That of hw2_download_ckpt.sh. A submission without a download needs none."""
    if assignment.trust:
        return Row("network", "not needed", "the code is trusted")
    if assignment.host_network:
        return Row("network", "ready", "downloads use this machine's own network, with all that it can reach")
    sandbox = replace(assignment.sandbox, hidden=(), gpu=False)
    try:
        check_network(sandbox)
        run_sandboxed(["true"], submission=SYSTEM, network=True, sandbox=sandbox).close()
    except GradingError as error:
        found, _, remedy = printable(str(error)).partition("; ")
        return Row("network", "not ready", found, remedy)
    return Row("network", "ready", "downloads reach the Internet, and nothing of this machine")


def _calls(assignment: Assignment, _output: Path) -> Row:
    """The filter of the sandbox. Without it, no sandbox is made."""
    if assignment.trust:
        return Row("system calls", "not needed", "the code is trusted")
    try:
        compiled()
    except GradingError as error:
        found, _, remedy = printable(str(error)).partition("; ")
        return Row("system calls", "not ready", found, remedy, blocks=True)
    refused = counted(len({name for row in DENIED for name in row.calls}), "call")
    return Row("system calls", "ready", f"libseccomp filters them; {refused} are refused always or in part")


def _limits(assignment: Assignment, _output: Path) -> Row:
    """What holds the limits of scripts on memory and CPU time. The grader counts memory where nothing holds it."""
    found = find_groups()
    if assignment.trust:
        return Row("limits", "not needed", "the code is trusted, and only its time is limited")
    return Row("limits", "not ready" if found.reason else "ready", found.protection, DELEGATE if found.reason else "")


def _python(assignment: Assignment, _output: Path) -> Row:
    try:
        version = check_python(replace(assignment.sandbox, hub_cache=None)).version
    except GradingError as error:
        found, _, remedy = printable(str(error)).rpartition("; ")
        return Row("python", "not ready", found, remedy, blocks=True)
    return Row("python", "ready", f"{printable(str(assignment.python))} has {version}")


def _packages(assignment: Assignment, _output: Path) -> Row:
    """The modules of the course's packages; the name of a distribution says less, since forks provide them too."""
    wanted = {module: name for module, name in known_modules().items() if name in course_packages()}
    try:
        missing = Probes(replace(assignment.sandbox, gpu=False)).absent_modules([*wanted, *TEMPLATE_MODULES])
    except GradingError:
        return Row("packages", "not ready", "unknown, because python is not ready", "see the row python")
    if not missing:
        return Row("packages", "ready", "all of the course's packages")
    missing = [module for module in missing if module.partition(".")[0] not in missing or "." not in module]
    names = sorted({wanted.get(module, module) for module in missing})
    found = f"{counted(len(names), 'package')} of the course missing: {listed(names, 20)}"
    return Row("packages", "not ready", found, "build an environment with hw2-grade environment")


def _gpu(assignment: Assignment, _output: Path) -> Row:
    """Its driver and devices; `--gpu` is what makes a GPU necessary."""
    said = printable("; ".join(str(hardware()["gpus"]).splitlines())) or "no answer from nvidia-smi"
    if not assignment.gpu:
        return Row("GPU", "not needed", f"{said}; scripts get no GPU")
    try:
        devices = listed([path.name for path in find_devices(assignment.sandbox.devices)], 20)
        judges_device(assignment.device, scripts_use_gpu=True)
        peak = check_gpu(assignment.sandbox)
    except GradingError as error:
        reason, _, remedy = printable(str(error)).rpartition("; ")
        return Row("GPU", "not ready", f"{said}; {reason}", remedy, blocks=True)
    facts = gpu_facts(assignment.sandbox, peak)
    judges = f"; judges run {facts['judges']}" if "judges" in facts else ""
    found = f"{said}; {devices}; a CUDA operation ran in the sandbox{judges}"
    lacks, remedy = _gpu_memory(assignment.run_limits.gpu_bytes, peak)
    return Row("GPU", "not ready" if lacks else "ready", found + lacks, remedy)


def _gpu_memory(limit: int, peak: int | None) -> tuple[str, str]:
    """What is wrong with the GPU's memory and what to do; empty if nothing is. It stops no class.

    limit: that of a script, in bytes. peak: of a run that used the GPU, None or 0 if it was not measured.
    """
    if reason := why_unmeasured(peak):
        what, _, remedy = printable(reason).partition("; ")
        lacks = f"; the GPU memory of scripts is not measured, so it has no limit ({what})"
        return lacks, remedy or "settle by hand what needs more GPU memory than the course's machine has"
    least = min(total_memory(), default=limit)
    if least >= SAME_CARD * limit:
        return "", ""
    lacks = f"; a GPU has {least / 2**30:.1f} GiB, and the limit for one script is {limit / 2**30:.1f} GiB"
    return lacks, "use a larger GPU, or settle by hand what ran out of GPU memory"


def _hub(assignment: Assignment, _output: Path) -> Row:
    """Needed by scripts that build Stable Diffusion as the template does."""
    inputs = [given.name for run in assignment.runs() for given in run.problem.inputs]
    if not any(given.option == "stable_diffusion" for run in assignment.runs() for given in run.problem.inputs):
        return Row("hub cache", "not needed", f"{counted(len(inputs), 'input')}, none of them Stable Diffusion")
    remedy = "fetch one with hw2-grade hub-cache, and name it"
    if assignment.hub_cache is None:
        return Row("hub cache", "not ready", "none is named; most scripts load CLIP from the Hub", remedy)
    absent = [
        each.repository for each in HUB_MODELS if each.use == "scripts" and not each.snapshot(assignment.hub_cache)
    ]
    shown = printable(str(assignment.hub_cache))
    if absent:
        return Row("hub cache", "not ready", f"{shown} lacks {listed(absent)}", remedy)
    return Row("hub cache", "ready", shown)


def _data(assignment: Assignment, _output: Path) -> Row:
    wanted = dict.fromkeys(_needed_paths(assignment))
    missing = [str(path) for path in wanted if not _has_content(path)]
    if missing:
        found = f"missing or empty: {listed(missing)}"
        return Row("data", "not ready", found, "complete the data, or leave those problems out", blocks=True)
    return Row("data", "ready", f"{counted(len(wanted), 'file or folder', 'files and folders')}, none missing or empty")


def _needed_paths(assignment: Assignment) -> Iterator[Path]:
    for run in assignment.runs():
        yield from run.inputs.values()
        if run.expected is not None:
            yield run.expected


def _has_content(path: Path) -> bool:
    try:
        return any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0
    except OSError:
        return False


def _judges(assignment: Assignment, _output: Path) -> Row:
    """The judges of the chosen problems, from their files alone. An official one that is missing may be downloaded."""
    shown, missing = [], []
    for name in assignment.judge_names:
        files, choice = JUDGES[name].files, assignment.judge_choices[name]
        try:
            source = find_judge(files, choice, assignment.data, assignment.hub_cache, download=False)
        except GradingError as error:
            missing.append(printable(str(error)).partition("; ")[0])
            continue
        shown.append(f"{name}: {source.kind} ({data_hashes({'': source.path})[''][:8]})")
    if missing:
        remedy = "fetch the judges with hw2-grade hub-cache --judges, name their files, or choose the embedded judges"
        return Row("judges", "not ready", "; ".join([*missing, *shown]), remedy)
    return Row("judges", "ready", "; ".join(shown))


def _disk(assignment: Assignment, output: Path) -> Row:
    """A run may fill its output folder up to its limit."""
    there = next(path for path in (output, *output.parents) if path.exists())
    return _amount("disk", shutil.disk_usage(there).free, assignment.run_limits.space_bytes, "one run's output")


def _memory(assignment: Assignment, _output: Path) -> Row:
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return _amount("memory", free, assignment.run_limits.memory_bytes, "one script")


def _amount(name: str, free: int, limit: int, what: str) -> Row:
    found = f"{free / 2**30:.1f} GiB free; the limit for {what} is {limit / 2**30:.1f} GiB"
    if free >= limit:
        return Row(name, "ready", found)
    return Row(name, "not ready", found, "free some, or lower the limit")


CHECKS: tuple[Callable[[Assignment, Path], Row], ...] = (
    _sandbox,
    _network,
    _calls,
    _limits,
    _python,
    _packages,
    _gpu,
    _hub,
    _data,
    _judges,
    _disk,
    _memory,
)
"""All checks. Each takes the assignment, with absolute paths, and the output folder, and never raises GradingError."""
