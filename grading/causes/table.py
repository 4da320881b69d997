"""Whose doing a failure was: a table of rules, each confirmed by a probe of the grader's own.

A log only says where to search. What a submission prints is no evidence: a rule applies if the grader itself finds that
the package, the command, the host, the model or the device is missing. In doubt a failure is the machine's, so that it
could not be checked, and staff settle it.
"""

from __future__ import annotations

from dataclasses import replace

from grading.causes.devices import gpu_memory, no_gpu, read_only_place, slow_without_gpu, too_little_cpu
from grading.causes.downloads import failed_download, git_lfs_pointer
from grading.causes.models import missing_model, network_at_run_time
from grading.causes.packages import missing_command, missing_package
from grading.causes.rule import Rule, Scene
from grading.core.results import Cause, StageResult

RULES = (
    Rule("command", missing_command, (True, False)),
    Rule("package", missing_package, (True, False)),
    Rule("download", failed_download, (True,)),
    Rule("git lfs", git_lfs_pointer),
    Rule("hub", missing_model),
    Rule("gpu", no_gpu),
    Rule("slow", slow_without_gpu),
    Rule("cpu", too_little_cpu),
    Rule("gpu memory", gpu_memory),
    Rule("network", network_at_run_time),
    Rule("read-only", read_only_place),
)
"""All rules, in the order in which they are tried."""


def find_cause(scene: Scene, download: bool = False) -> Cause | None:
    """The cause that the first rule finds, None if none applies. Raises GradingError if a probe cannot run."""
    for rule in RULES:
        if download in rule.download and (cause := rule.find(scene)):
            return cause
    return None


def blamed(stage: StageResult, cause: Cause) -> StageResult:
    """A stage with its cause, which its message names. A failure that is the machine's is an error."""
    status = "error" if cause.whose == "machine" and stage.status == "fail" else stage.status
    return replace(stage, status=status, cause=cause, message=f"{stage.message} {cause.evidence}")
