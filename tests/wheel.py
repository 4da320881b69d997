"""Build this project's sdist and wheel, install the wheel elsewhere, and use it as a person without a checkout does.

`python -m tests.wheel` (or `make wheel-test`) installs everything into a clean environment; it downloads PyTorch again.
`python -m tests.wheel FILE` tries a wheel that is already there, and needs no package of its own.
The tests use the packages of this environment instead, but never this checkout.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from tests.commands import ROOT
from tests.markdown import INDEX, not_printed, transcripts

Run = "subprocess.CompletedProcess[str]"

SHOWN = [shown for shown in transcripts(INDEX) if shown.command.startswith("wheel/bin/")]
"""What docs/index.md types with an installed wheel, and what it is said to print."""

COMMANDS = {
    **{shown.command.removeprefix("wheel/bin/"): 0 for shown in SHOWN},
    "hw2-grade digits digits --judges embedded": 1,  # the homework asks for more digits
    "hw2 faces sample --noise homework/face/noise --checkpoint {weights} --output faces": 0,
    "hw2 concepts generate --json input.json --embeddings words/0.safetensors words/1.safetensors"
    " words/2.safetensors --per-prompt 2 --output concepts": 0,
    "hw2-grade faces faces homework/face/GT": 0,
    "hw2-grade check submission": 0,
    "hw2-grade check submission --run": 2,  # a wheel has no embedded homework
    "hw2 report --output report": 2,
}
"""What is typed in the folder of `lay_out`, in this order, and the exit status."""

ALL = """
import json, os, sys
from importlib.metadata import distribution
programs = {each.name: each.load() for each in distribution("dlcv-hw2").entry_points}
descriptors, ended = (os.dup(1), os.dup(2)), []
for words in json.loads(sys.argv[1]):
    sys.argv = words
    streams = [open(os.dup(each), "w") for each in descriptors]
    sys.stdout, sys.stderr = streams
    try:
        programs[words[0]]()
    except SystemExit as status:
        ended.append(status.code)
os.write(descriptors[0], str(ended).encode())
"""
"""The same by the functions that the installed commands call, one after the other."""


def build(output: Path) -> Path:
    """Build the sdist from what git tracks, and the wheel from the sdist. Returns the wheel's path."""
    source = output / "source"
    files = _run(["git", "ls-files", "-z"], ROOT).stdout.split("\0")
    for name in filter(None, files):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    _run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output / "dist"), "."], source)
    (wheel,) = (output / "dist").glob("*.whl")
    return wheel


def install(wheel: Path, environment: Path, clean: bool) -> None:
    """Make an environment and install the wheel. clean: with all it needs, from the registry."""
    _run([sys.executable, "-m", "venv", "--without-pip", str(environment)], ROOT)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "--quiet"]
    if clean:
        _run([*pip, f"{wheel}[all]"], ROOT)
        return
    _run([*pip, "--no-deps", str(wheel)], ROOT)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its own .pth files are not read


def lay_out(folder: Path) -> None:
    """What a person has in the folder: data, learned words and a submission."""
    shutil.copytree(ROOT / "fixtures" / "hw2_data", folder / "homework")
    for path in (folder / "homework" / "face").glob("*/*"):
        if path.parent.name in ("noise", "GT") and path.stem not in ("00", "01"):  # each takes 50 steps
            path.unlink()
    shutil.copytree(ROOT / "fixtures" / "submissions" / "reference", folder / "submission")
    (folder / "words").mkdir()
    for i, words in enumerate(sorted((folder / "submission" / "learned").iterdir())):
        shutil.copyfile(words, folder / "words" / f"{i}.safetensors")
    (number, asked), *_ = json.loads((folder / "homework" / "textual_inversion" / "input.json").read_text()).items()
    (folder / "input.json").write_text(json.dumps({number: asked | {"prompt": asked["prompt"][:1]}}))


def use(environment: Path, folder: Path, command: str) -> Run:
    """Type one of COMMANDS in the folder."""
    words = _words(environment, command)
    return _start(environment, [str(environment / "bin" / words[0]), *words[1:]], folder)


def use_all(environment: Path, folder: Path) -> Run:
    """Every command of COMMANDS in one process that imports PyTorch once; the last line is their exit statuses."""
    commands = json.dumps([_words(environment, command) for command in COMMANDS])
    return _start(environment, [str(environment / "bin" / "python"), "-c", ALL, commands], folder)


def _words(environment: Path, command: str) -> list[str]:
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    return shlex.split(command.format(weights=site / "hw2" / "models" / "face_unet.safetensors"))


def _start(environment: Path, command: list[str], folder: Path) -> Run:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"COLUMNS": "120"}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=600)


def _run(command: list[str], folder: Path) -> Run:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)


def main() -> None:
    """Install into a clean environment and type every command; the first that fails ends with its output."""
    given = [Path(each).absolute() for each in sys.argv[1:]]
    with tempfile.TemporaryDirectory(prefix="wheel-") as name:
        folder = Path(name)
        (wheel,) = given or [build(folder)]
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
        install(wheel, folder / "environment", clean=True)
        (folder / "person").mkdir()
        lay_out(folder / "person")
        for command, status in COMMANDS.items():
            done = use(folder / "environment", folder / "person", command)
            print(f"{command}: exit status {done.returncode}", flush=True)
            shown = [line for each in SHOWN if each.command == f"wheel/bin/{command}" for line in each.lines]
            if done.returncode != status or not_printed(shown, done.stdout):
                sys.exit(done.stdout + done.stderr)


if __name__ == "__main__":
    main()
