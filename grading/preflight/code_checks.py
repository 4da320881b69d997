"""What the scripts and the Python files that they reach do, and should not do on the course's machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

from grading.environment.hub_models import HUB_MODELS
from grading.environment.imports import foreign_modules
from grading.environment.packages import (
    NOT_ALLOWED,
    NOT_ON_PYPI,
    course_packages,
    distribution_of,
    is_standard,
    root_of,
)
from grading.preflight.own_code import DOWNLOAD, MODULE, HandIn
from grading.problems.problem import DATA, Problem

Status = Literal["fail", "warning"]
Answer = tuple[Status, str]

COMES_WITH = frozenset({
    "absl-py", "beautifulsoup4", "filelock", "fsspec", "joblib", "networkx", "packaging", "protobuf", "psutil",
    "python-dateutil", "pytz", "pywavelets", "setuptools", "six", "sympy", "tokenizers", "typing-extensions",
})  # fmt: skip
"""Packages that the course's packages bring."""

TRAINING_ONLY = ("wandb", "tensorboard", "tensorboardX", "torch.utils.tensorboard")
"""Modules that no inference needs."""

OWN_MACHINE = re.compile(
    r"(^|[\s\"'=(])(/(home|Users|content|kaggle|mnt|media|root|workspace|project|data\d)/|~/|[A-Za-z]:[\\/](?![\\/]))"
)
DATA_FOLDER = re.compile(r"\bhw2_data[/\\]")
CUDA = re.compile(r"\bcuda:([1-9]\d*)\b")
DEVICE_CALL = re.compile(r"(?:\.|^)(?:cuda|device|set_device)(?: cuda)? ([1-9]\d*)$")
HUB_CALL = re.compile(r"(?:^|\.)from_pretrained ([\w-]+/[\w.-]+)(?: |$)")
DOWNLOAD_CALL = re.compile(
    r"^(gdown\.\w+|clip\.load|torch\.hub\.\w+|urllib\.request\.urlretrieve|wget\.download|load_state_dict_from_url|"
    r"timm\.create_model|hf_hub_download|snapshot_download|requests\.get)\b"
)
DOWNLOAD_COMMAND = re.compile(r"(^|[\s;&|(])(gdown|wget|curl|pip3? install|git clone|conda install)\b")
MAKES_FOLDER = re.compile(r"(^|\.)(makedirs|mkdir)( |$)")

KNOWN_MODELS = {model.repository for model in HUB_MODELS if model.use in ("scripts", "judges")}
"""Models that the course's machine has."""


def network(handin: HandIn) -> Iterator[Answer]:
    """Downloads while a script runs."""
    only = f"Only {DOWNLOAD} has network; download it there."
    for line in handin.shell():
        if DOWNLOAD_COMMAND.search(line.text):
            yield "warning", f"{line.where} downloads. {only}"
    for line in handin.code("call"):
        hub = HUB_CALL.search(line.text)
        if hub and hub[1] not in KNOWN_MODELS and not os.path.lexists(handin.folder / hub[1]):
            yield "warning", f"{line.where} loads {hub[1]} from the Hugging Face Hub. {only}"
        elif DOWNLOAD_CALL.search(line.text):
            yield "warning", f"{line.where} may download ({line.text.split(' ')[0]}). {only}"


def started_files(handin: HandIn) -> Iterator[Answer]:
    """Python files that a script starts and that are not there."""
    fetched = bool(handin.lines(DOWNLOAD))
    for _, script in handin.scripts():
        for line, name in handin.started(script):
            is_module = bool(MODULE.search(line.text)) and name not in line.text
            if re.search(r"[$*~{}]", name) or handin.found(name) or (is_module and _installed(name)):
                continue
            if is_module:
                module = name.removesuffix(".py").replace("/", ".")
                yield "warning", f"{line.where} runs the module {module}, which is not in this folder; is it installed?"
            elif fetched:
                yield "warning", f"{line.where} starts {name}, which is not here; does {DOWNLOAD} fetch it?"
            else:
                yield "fail", f"{line.where} starts {name}, which is not here. Add it, or correct its name."


def _installed(name: str) -> bool:
    module = name.removesuffix(".py").replace("/", ".")
    return is_standard(module) or distribution_of(module) in course_packages()


def syntax(handin: HandIn) -> Iterator[Answer]:
    """Files that Python cannot read."""
    for line in handin.code("invalid"):
        yield "fail", f"{line.where} is not valid Python: {line.text}."


def arguments(handin: HandIn) -> Iterator[Answer]:
    """Arguments that a script never mentions."""
    for problem, script in handin.scripts():
        text = "\n".join(line.text for line in handin.lines(script))
        if not text or re.search(r"\$[@*]|\$\{[@*]|\bshift\b|getopts", text):
            continue
        for number, argument in enumerate(problem.arguments, 1):
            if not re.search(rf"\$({number}\b|\{{{number}\b)", text):
                yield _unused(problem, script, number, argument)


def _unused(problem: Problem, script: str, number: int, argument: str) -> Answer:
    shared = [given.name for given in problem.inputs if given.shared]
    name = argument.removeprefix(DATA)
    if name in shared:
        return "warning", f"{script} never uses ${number} ({name}). Use it, or make sure that {DOWNLOAD} fetches yours."
    what = "the output folder" if argument == "/output" else name
    return "fail", f"{script} never uses ${number} ({what}). Staff run it with other paths than yours."


def paths(handin: HandIn) -> Iterator[Answer]:
    """Paths of the student's own machine, and of the homework's data."""
    for line in handin.shell():
        if OWN_MACHINE.search(line.text):
            yield "fail", f"{line.where} has a path of your own machine. Write paths from the script's folder."
        elif DATA_FOLDER.search(line.text):
            yield "fail", f"{line.where} names hw2_data, which staff keep elsewhere. Use the script's arguments."
    for line in handin.code("string", "default"):
        todo = _replaced(line.kind)
        if OWN_MACHINE.match(line.text):
            yield "warning", f"{line.where} has a path of your own machine ({line.text[:60]}). {todo}"
        elif DATA_FOLDER.search(line.text):
            yield "warning", f"{line.where} has a path of the data ({line.text[:60]}). {todo}"


def _replaced(kind: str) -> str:
    if kind == "default":
        return "It is a default: make sure that your script sets the option."
    return "Use the script's arguments, or a path from the script's folder."


def devices(handin: HandIn) -> Iterator[Answer]:
    """GPUs other than the first. The course's machine has one."""
    for line in handin.shell():
        if found := re.search(r"CUDA_VISIBLE_DEVICES=[\"']?([\d,]*)", line.text):
            yield _visible(line.where, found[1])
        elif found := CUDA.search(line.text):
            yield "fail", f"{line.where} asks for {found[0]} as its GPU. There is one: write cuda:0."
    for line in handin.code("string", "default", "call", "visible"):
        if line.kind == "visible":
            yield _visible(line.where, line.text)
        elif (found := CUDA.search(line.text)) and line.kind == "default":
            yield "warning", f"{line.where} has {found[0]} as default. There is one GPU: write cuda:0."
        elif (found and line.kind == "string") or (line.kind == "call" and DEVICE_CALL.search(line.text)):
            yield "fail", f"{line.where} asks for another GPU than the first. There is one: write cuda:0."


def _visible(where: str, value: str) -> Answer:
    if value in ("", "0"):
        return "warning", f"{where} sets CUDA_VISIBLE_DEVICES. Leave that to staff; remove it."
    return "fail", f"{where} sets CUDA_VISIBLE_DEVICES={value}, which hides the only GPU, number 0. Remove it."


def packages(handin: HandIn) -> Iterator[Answer]:
    """Imports that the course's environment cannot fulfil."""
    where = {(line.path, line.text): line.where for line in reversed(list(handin.code("import")))}
    reached = {path for path, _ in where}
    for module, files in foreign_modules(handin.folder).items():
        path = next((path for path in files if path in reached), None)
        if path and not is_standard(module) and (answer := _not_of_the_course(module)):
            status, sentence = answer
            yield status, f"{where.get((path, module), path)} imports {root_of(module)}{sentence}"


def _not_of_the_course(module: str) -> Answer | None:
    distribution = distribution_of(module)
    if distribution is None:
        return "fail", ", which no package of the course has. It is probably a file of yours that is missing here."
    if distribution in NOT_ALLOWED:
        return "fail", f". The homework does not allow {distribution}."
    if distribution in course_packages() or distribution in COMES_WITH:
        return None
    if distribution == "latent-diffusion":
        return "warning", ", which must be installed. Hand in the template's stable-diffusion folder with your code."
    if distribution in NOT_ON_PYPI:
        return "fail", f": {NOT_ON_PYPI[distribution]}."
    if root_of(module) in TRAINING_ONLY:
        return "fail", ", which the course's machine does not have. Only training needs it; import it there."
    return "fail", f". The course's requirements do not have {distribution}; do without, or ask the staff."


def training(handin: HandIn) -> Iterator[Answer]:
    """Imports that only training needs, where the course's machine has them."""
    for line in handin.code("import", "from"):
        name = line.text.lstrip(".")
        if any(name == each or name.startswith(f"{each}.") for each in TRAINING_ONLY) and line.kind == "import":
            if distribution_of(name) in course_packages():
                yield "warning", f"{line.where} imports {name}, which only training needs. Import it there."
        elif name.rpartition(".")[2].lower().startswith("train") and handin.imported(line.path, name):
            yield "warning", f"{line.where} imports {name}, your training code: it runs before each inference."


def noises(handin: HandIn) -> Iterator[Answer]:
    """Names of noises written in the code of problems that are given a folder of them."""
    given = [script for problem, script in handin.scripts() if any(each.pattern for each in problem.inputs)]
    reached = {path for script in given for path in handin.reached(script)}
    todo = "The private noises may have other names and another number: list the folder's *.pt."
    for line in handin.code("ten", "string"):
        if line.path in reached and (line.kind == "ten" or re.fullmatch(r"(.*[/\\])?0\d\.pt", line.text)):
            what = "assumes ten files 00 .. 09" if line.kind == "ten" else f"names {PurePosixPath(line.text).name}"
            yield "warning", f"{line.where} {what}. {todo}"


def output_folder(handin: HandIn) -> Iterator[Answer]:
    """Scripts of which neither they nor their Python files make a folder."""
    for _, script in handin.scripts():
        reached = handin.reached(script)
        facts = [line for path in reached for line in handin.facts[path]]
        made = any(line.kind == "call" and MAKES_FOLDER.search(line.text) for line in facts)
        made = made or any("mkdir" in line.text for line in handin.lines(script))
        if reached and not made and not any(line.kind == "invalid" for line in facts):
            todo = "Add os.makedirs(folder, exist_ok=True)."
            yield "warning", f"{script} makes no folder ({reached[0]}); the output folder may not exist. {todo}"
