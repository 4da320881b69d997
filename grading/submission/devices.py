"""How scripts and judges share the GPUs of the machine."""

from __future__ import annotations

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.sandbox.nvml import is_exclusive, why_unmeasured
from grading.sandbox.run import Sandbox

BLOCKED = "the GPU serves one process at a time (exclusive-process mode), and judges on it would block the scripts"

SHARE = "run nvidia-smi -c 0"


def judges_device(asked: str, scripts_use_gpu: bool) -> str:
    """The device for the judges. It is the CPU in place of "auto" where they would block the scripts.

    The grader keeps its judges from one submission to the next, and with them its CUDA context.
    Raises GradingError if staff chose a GPU on which they would do so.
    """
    if not scripts_use_gpu or asked == "cpu" or not is_exclusive():
        return asked
    if asked == "auto":
        return "cpu"
    raise GradingError(
        f"the device for the judges is {printable(asked)}, but {BLOCKED}; {SHARE}, or choose cpu", option="device"
    )


def gpu_facts(sandbox: Sandbox, peak: int | None) -> dict[str, str]:
    """For the record: whether GPU memory is measured, and where the judges run instead of on the GPU.

    peak: of a run that used the GPU, as `check_gpu` returns it. Trusted code may use the GPU without asking for it, and
    has no limits.
    """
    if not (sandbox.gpu or sandbox.trust):
        return {}
    reason = why_unmeasured(peak)
    measured = {"gpu_memory": f"not measured ({reason})" if reason else "measured"}
    facts = {} if sandbox.trust else measured
    return facts | ({"judges": f"on the CPU, because {BLOCKED}"} if is_exclusive() else {})
