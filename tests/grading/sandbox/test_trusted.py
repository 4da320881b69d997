from pathlib import Path

import grading.sandbox.bubblewrap
from grading.sandbox.run import run_sandboxed
from tests.grading.sandboxed import TRUSTED, run


def test_trusted_code_needs_no_bubblewrap(folder, monkeypatch):
    monkeypatch.setattr(grading.sandbox.bubblewrap, "_find_bubblewrap", lambda: 1 / 0)
    assert run("echo hello", folder, sandbox=TRUSTED).log == "hello"


def test_a_trusted_commands_paths_become_those_outside_and_nothing_else_does(folder):
    inside = ["/data", "/data/x", "/database", "a/data", "/other/data", "/submission/hw2.py", "/data/in/x"]
    command = ["bash", "-c", 'echo "$@" > $0/said', "/output", *inside]
    inputs = {"/data": folder.parent, "/data/in": folder}
    with run_sandboxed(command, submission=folder, inputs=inputs, sandbox=TRUSTED) as result:
        said = Path(f"/proc/self/fd/{result.output}/said").read_text().strip()
        assert said == f"{folder.parent} {folder.parent}/x /database a/data /other/data {folder}/hw2.py {folder}/x"
