"""Whose doing a failure was: a table of rules, each confirmed by a probe of the grader's own.

A log only says where to look. What a submission prints is no evidence: a rule applies if the grader itself finds that
the package, the command, the host, the model or the device is not there. In doubt a failure is the machine's, so that
it could not be checked, and staff settle it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from grading.core.results import Cause, StageResult
from grading.core.text import listed, printable
from grading.environment.hub import has_model
from grading.environment.imports import imported_modules, own_modules
from grading.environment.packages import REMOVED_FROM_PYTHON, distribution_of
from grading.environment.probes import Page, Probes
from grading.files.texts import read_start, read_texts

CODE = (".py", ".sh")

MAX_LINKS = 10
"""Links of a download script that are probed."""


@dataclass(frozen=True)
class Scene:
    """A stage that failed, and the means to find out why.

    submission, home: the copy that ran, and the home with its downloads. hub_cache: that of staff. gpu: whether scripts
    had the GPU.
    """

    stage: StageResult
    submission: Path
    home: Path
    probes: Probes
    hub_cache: Path | None = None
    gpu: bool = False

    @property
    def log(self) -> str:
        """The log of the stage."""
        return self.stage.log

    @functools.cached_property
    def code(self) -> dict[str, str]:
        """The submission's code, by file."""
        return read_texts(self.submission, CODE)

    def in_code(self, pattern: str) -> bool:
        """Whether the submission's code has something that matches."""
        return any(re.search(pattern, text) for text in self.code.values())


@dataclass(frozen=True)
class Rule:
    """One way in which a stage fails. find: the cause, None if the rule does not apply. download: whether it is about
    the download stage, else about the scripts of problems.
    """

    name: str
    find: Callable[[Scene], Cause | None]
    download: tuple[bool, ...] = (False,)


def find_cause(scene: Scene, download: bool = False) -> Cause | None:
    """The cause that the first rule finds, None if none applies. Raises GradingError if a probe cannot run."""
    for rule in RULES:
        if download in rule.download and (cause := rule.find(scene)):
            return cause
    return None


# --- commands and packages

COMMANDS = ("gdown", "wget", "curl", "unzip", "git", "tar", "7z", "unrar", "aria2c", "python", "pip", "conda", "ffmpeg")
"""Commands that the grading machine is expected to have. Any other one is the submission's own."""

_NO_COMMAND = re.compile(r"(?:^|: )(?P<name>[\w.-]+): (?:command )?not found$", re.MULTILINE)


def missing_command(scene: Scene) -> Cause | None:
    """A usual command that the script calls is not installed."""
    asked = {match["name"] for match in _NO_COMMAND.finditer(scene.log)}
    named = [name for name in COMMANDS if name in asked and scene.in_code(rf"\b{re.escape(name)}\b")]
    absent = scene.probes.missing_commands(named) if named else []
    if not absent:
        return None
    return Cause(
        "machine", "command", absent[0],
        f"The submission calls {absent[0]}, which is not installed on the grading machine.",
        f"install {absent[0]} where scripts find it, in the environment of the scripts or in the system",
    )  # fmt: skip


_NO_MODULE = re.compile(r"No module named '?(?P<module>[\w.]+)'?")
_NO_NAME = re.compile(r"cannot import name '(?P<name>\w+)' from '(?P<module>[\w.]+)'")


def missing_package(scene: Scene) -> Cause | None:
    """A package that the submission imports is not in the environment of the scripts, or in another version."""
    modules = list(dict.fromkeys(match["module"] for match in _NO_MODULE.finditer(scene.log)))
    names = list(dict.fromkeys((match["module"], match["name"]) for match in _NO_NAME.finditer(scene.log)))
    if not modules and not names:
        return None
    own = own_modules(scene.submission)
    asked = [each for each in [*((module, "") for module in modules), *names] if _is_foreign(scene, each[0], own)]
    for (module, name), error in scene.probes.imports(asked).items() if asked else ():
        if error:
            return _package_cause(module, name, error)
    return _broken_package(scene, modules, own) or _forgotten(scene, modules, own)


def _is_foreign(scene: Scene, module: str, own: Iterable[str]) -> bool:
    """Whether the submission's code asks for a module that others provide."""
    top = module.partition(".")[0]
    known = distribution_of(top) or top in REMOVED_FROM_PYTHON or _is_declared(scene, top)
    return bool(known) and top not in own and (_imports(scene, top) or scene.in_code(rf"-m\s+{re.escape(top)}\b"))


def _imports(scene: Scene, top: str) -> bool:
    return any(module.partition(".")[0] == top for module in imported_modules(scene.submission))


def _is_declared(scene: Scene, top: str) -> bool:
    """Whether the submission's own requirements.txt names a package."""
    start = read_start(scene.submission / "requirements.txt", 2**16).decode(errors="replace")
    return any(re.match(rf"{re.escape(top)}\b", line.strip().replace("-", "_"), re.IGNORECASE) for line in start.splitlines())


def _package_cause(module: str, name: str, error: str) -> Cause:
    top = module.partition(".")[0]
    package = distribution_of(top) or top
    if top in REMOVED_FROM_PYTHON:
        evidence = f"The submission imports {module}, which this Python no longer has."
        return Cause("machine", "package", module, evidence, "give the scripts an older Python, such as the course's")
    if name or "." in module:
        wanted = f"{name} of {module}" if name else module
        evidence = f"The submission imports {wanted}, which the installed version of {package} does not have."
        return Cause("machine", "version", package, evidence, f"install the course's version of {package}")
    evidence = f"The submission imports {top}, which the environment of the scripts lacks."
    if "No module named" not in error:
        evidence = f"The submission imports {top}, which does not work in the environment of the scripts ({error})."
    return Cause("machine", "package", package, printable(evidence), f"add {package} to the environment of the scripts")


def _broken_package(scene: Scene, modules: list[str], own: Iterable[str]) -> Cause | None:
    """A package that the submission imports itself lacks one of the modules that the log names."""
    tops = {module.partition(".")[0] for module in imported_modules(scene.submission)}
    asked = sorted(top for top in tops - set(own) if distribution_of(top))
    for (top, _), error in scene.probes.imports([(top, "") for top in asked]).items() if modules else ():
        missing = _NO_MODULE.search(error)
        if missing and missing["module"] in modules:
            return _package_cause(missing["module"].partition(".")[0], "", error)
    return None


def _forgotten(scene: Scene, modules: list[str], own: Iterable[str]) -> Cause | None:
    """A module that nobody knows is probably a file of the submission that was not handed in."""
    for module in modules:
        top = module.partition(".")[0]
        if top not in own and not distribution_of(top) and _imports(scene, top):
            evidence = f"The submission imports {top}, which is neither one of its files nor a known package."
            return Cause("submission", "own file", top, evidence)
    return None


# --- models and files that scripts want to download

_HUB = re.compile(r"huggingface\.co|LocalEntryNotFoundError|OfflineModeIsEnabled|outgoing traffic has been disabled")
_REPOSITORY = re.compile(r"""["'/](?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)["']""")
_NO_NETWORK = re.compile(
    r"name resolution|Name or service not known|Could not resolve|unable to resolve|Network is unreachable|"
    r"Max retries exceeded|Failed to establish a new connection|urlopen error|Connection (?:refused|timed out|reset)|"
    r"timed out|No route to host|HTTP Error (?:429|5\d\d)|(?:429|50[0234]) [A-Z]",
)
_LINK = re.compile(r"https?://(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*\.[A-Za-z]{2,})[^\s\"'`)<>\\]*")


def missing_model(scene: Scene) -> Cause | None:
    """The script asks the Hugging Face Hub for a model that no cache has."""
    if not _HUB.search(scene.log) and "from_pretrained" not in scene.log:
        return None
    named = [name for text in scene.code.values() for name in _repositories(text)]
    logged = {name for name in _repositories(scene.log)}
    absent = [name for name in dict.fromkeys([*named, *sorted(logged & TEMPLATE_MODELS)]) if name in logged and not _has(scene, name)]
    if not absent:
        return None
    where = "which the Hub cache lacks" if scene.hub_cache else "and there is no Hub cache"
    return Cause(
        "machine", "hub", absent[0], f"The script loads {printable(absent[0])} from the Hugging Face Hub, {where}.",
        f"add {printable(absent[0])} to the Hub cache (hw2-grade hub-cache)",
    )  # fmt: skip


TEMPLATE_MODELS = frozenset({"openai/clip-vit-large-patch14"})
"""Models that the course's own code loads, so that the submission's code need not name them."""


def _repositories(text: str) -> Iterator[str]:
    return (match["name"] for match in _REPOSITORY.finditer(text))


def _has(scene: Scene, repository: str) -> bool:
    own = scene.home / ".cache" / "huggingface"
    return any(cache is not None and has_model(cache, repository) for cache in (scene.hub_cache, own))


def network_at_run_time(scene: Scene) -> Cause | None:
    """The script downloads something itself. By the homework's rules only the download stage has the network."""
    if not _NO_NETWORK.search(scene.log):
        return None
    hosts = {match["host"] for text in scene.code.values() for match in _LINK.finditer(text)}
    hosts |= {host for call, host in CALLS.items() if scene.in_code(call)}
    if not hosts:
        return None
    shown = listed(sorted(hosts), 3)
    return Cause(
        "machine", "network", shown, f"The script downloads something while it runs (its code names {shown}), and scripts run without network.",
        "add what it needs to the Hub cache, or decide the points yourself (a column settled_N of the staff file)",
    )  # fmt: skip


CALLS = {
    r"\bgdown\b": "drive.google.com",
    r"\bclip\.load\(": "openaipublic.azureedge.net",
    r"torch\.hub\.load|model_zoo|weights=\S*Weights|pretrained=True": "download.pytorch.org",
    r"open_clip|timm\.create_model|detectors": "huggingface.co",
}
"""Calls that download, and where from."""


# --- the GPU

_NO_GPU = re.compile(
    r"Found no NVIDIA driver|No CUDA GPUs are available|not compiled with CUDA|CUDA driver version is insufficient|"
    r"torch\.cuda\.is_available\(\) is False|CUDA-capable device|no NVIDIA GPU|CUDA is not available|CUDA_ERROR_NO_DEVICE|"
    r"No CUDA runtime|Unexpected error from cudaGetDeviceCount|CUDA initialization",
)
_CUDA_CODE = r"\bcuda\b"


def no_gpu(scene: Scene) -> Cause | None:
    """The script needs a GPU, and scripts have none."""
    if not _NO_GPU.search(scene.log) or not scene.in_code(_CUDA_CODE):
        return None
    reason = scene.probes.cuda()
    if not reason:
        return None
    evidence = "The script needs a GPU, and the grading gave it none."
    if scene.gpu:
        evidence = f"The script needs a GPU, and no CUDA operation runs in the sandbox ({reason})."
    return Cause("machine", "gpu", "a GPU", evidence, "grade on a machine with a GPU, with the option gpu")


def slow_without_gpu(scene: Scene) -> Cause | None:
    """The script reached its time limit on the CPU, and its code would use a GPU."""
    if scene.stage.limit != "seconds" or not scene.in_code(_CUDA_CODE) or not scene.probes.cuda():
        return None
    evidence = "The script reached its time limit without a GPU; the course's machine has one, and its code would use it."
    return Cause("machine", "gpu", "a GPU", evidence, "grade on a machine with a GPU, with the option gpu")


# --- what was handed in and what was downloaded

POINTER = b"version https://git-lfs.github.com/spec/v1"
WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pkl", ".zip", ".tar", ".gz")


def git_lfs_pointer(scene: Scene) -> Cause | None:
    """A file of the submission is a pointer of Git LFS: whoever cloned it did not fetch the file itself."""
    for path in _large_files(scene.submission):
        if read_start(path, len(POINTER)) == POINTER:
            name = printable(str(path.relative_to(scene.submission)))
            evidence = f"{name} is a pointer of Git LFS, not the file itself."
            return Cause("machine", "git lfs", "Git LFS", evidence, "run git lfs pull in the submission's clone")
    return None


def page_instead_of_file(scene: Scene) -> Cause | None:
    """A file that was downloaded is a web page: a host that refuses for now answers with one."""
    for folder in (scene.submission, scene.home):
        for path in _large_files(folder):
            if read_start(path, 512).lstrip().lower().startswith((b"<!doctype html", b"<html")):
                name = printable(str(path.relative_to(folder)))
                return _link_cause(scene, f"{name} is a web page, not a file of weights")
    return None


def _large_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.name.endswith(WEIGHTS) and not path.is_symlink())


_QUOTA = re.compile(r"quota exceeded|too many users have (?:viewed|downloaded)", re.IGNORECASE)
_LOGIN = re.compile(r"accounts\.google\.com|/login|ServiceLogin")
_DRIVE = re.compile(r"(?:--id[= ]|\bid=|/d/|gdown\s+(?:-\S+\s+)*)[\"']?(?P<id>[\w-]{25,})")


def failed_download(scene: Scene) -> Cause | None:
    """A link of the download script cannot be reached now, or its host refuses for now."""
    said = _NO_NETWORK.search(scene.log) or _QUOTA.search(scene.log) or "Cannot retrieve" in scene.log
    return _link_cause(scene, "The download failed") if said or scene.stage.status != "pass" else None


def _link_cause(scene: Scene, said: str) -> Cause | None:
    """What the grader's own requests to the links of the download find."""
    links = list(_links(scene))[:MAX_LINKS]
    for link, page in zip(links, scene.probes.pages(links) if links else (), strict=True):
        shown = printable(link)[:100]
        if page.status in (404, 410) or _LOGIN.search(page.url):
            what = f"answers {page.status}, so the link is wrong" if page.status >= 400 else "asks for a login"
            return Cause("submission", "link", shown, f"{said}: {shown} {what}.")
        if refusal := _refusal(page):
            evidence = f"{said}: {shown} {refusal}."
            return Cause("machine", "download", shown, evidence, "check the network, and run again later")
    return None


def _refusal(page: Page) -> str:
    """Why a page cannot be downloaded at present; empty if it can."""
    if not page.status:
        return f"cannot be reached from the grading machine ({printable(page.start)[:100]})"
    if _QUOTA.search(page.start):
        return "answers that too many people have downloaded it; this passes"
    if page.status in (401, 403, 429) or page.status >= 500:
        return f"answers {page.status} at present"
    return ""


def _links(scene: Scene) -> Iterator[str]:
    """The links in the code that downloads. Google Drive's files by their id."""
    texts = [scene.code[name] for name in scene.code if name == "hw2_download_ckpt.sh"]
    started = [name for name in scene.code if any(name in text for text in texts)]
    found: dict[str, None] = {}
    for text in [*texts, *(scene.code[name] for name in started)]:
        found |= {match[0]: None for match in _LINK.finditer(text) if "drive.google" not in match["host"]}
        found |= {f"https://drive.google.com/uc?id={match['id']}": None for match in _DRIVE.finditer(text)}
    yield from found


RULES = (
    Rule("command", missing_command, (True, False)),
    Rule("package", missing_package, (True, False)),
    Rule("download", failed_download, (True,)),
    Rule("page", page_instead_of_file),
    Rule("git lfs", git_lfs_pointer),
    Rule("hub", missing_model),
    Rule("gpu", no_gpu),
    Rule("slow", slow_without_gpu),
    Rule("network", network_at_run_time),
)
"""All rules, in the order in which they are tried."""
