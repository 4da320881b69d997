import ctypes
import os
import platform
import signal
import subprocess
import sys

import pytest

from grading.sandbox.keyring import OWN_KEYRING
from tests.grading.sandboxed import needs_sandbox, run, without_filter

SESSION, USER = -3, -4

KEYS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
ADD_KEY, KEYCTL = {"x86_64": (248, 250)}.get(os.uname().machine, (217, 219))
SEARCH, READ = 10, 11

def call(*arguments):
    done = libc.syscall(*arguments)
    return done if done >= 0 else -ctypes.get_errno()

def put(name, ring):
    return call(ADD_KEY, b"user", name.encode(), b"CANARY", ctypes.c_size_t(6), ctypes.c_int(ring))

def get(name, ring):
    key = call(KEYCTL, SEARCH, ctypes.c_int(ring), b"user", name.encode(), 0)
    value = ctypes.create_string_buffer(100)
    return value.raw[:6].decode() if key >= 0 and call(KEYCTL, READ, key, value, ctypes.c_size_t(100)) == 6 else ""
"""

tools: dict = {}
exec(KEYS, tools)

KEYCTL, UNLINK = tools["KEYCTL"], 9


@pytest.fixture
def key():
    """The name of a key in the session keyring of this process."""
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("the numbers of the system calls are not known here")
    name = f"hw2-test-{os.getpid()}"
    made = tools["put"](name, SESSION)
    if made < 0:
        pytest.skip(f"the kernel keeps this process from its keys ({os.strerror(-made)})")
    yield name
    tools["call"](KEYCTL, UNLINK, made, ctypes.c_int(SESSION))


@pytest.fixture(params=[True, False], ids=["protected", "unprotected"])
def protected(request, monkeypatch):
    without_filter(monkeypatch)  # which refuses all calls about keys
    if not request.param:
        monkeypatch.setattr("grading.sandbox.bubblewrap.OWN_KEYRING", ())
    return request.param


def ask(folder, code: str) -> str:
    (folder / "keys.py").write_text(f"{KEYS}\n{code}")
    return run("python3 keys.py", folder).log


@needs_sandbox
def test_a_run_cannot_read_the_graders_keys(folder, key, protected):
    found = ask(folder, f"print('found', get({key!r}, {SESSION}))")
    assert found.split() == (["found"] if protected else ["found", "CANARY"])
    assert tools["get"](key, SESSION) == "CANARY"  # the grader still has it


@needs_sandbox
def test_a_run_finds_no_keys_of_the_run_before_it(folder, key, protected):
    name = f"{key}-left"
    left = f"print(put({name!r}, {SESSION}) > 0, put({name!r}, {USER}) > 0, get({name!r}, {SESSION}))"
    search = f"print('found', get({name!r}, {SESSION}), get({name!r}, {USER}))"
    try:
        assert ask(folder, left).split()[-1] == "CANARY"
        assert ask(folder, search).split() == (["found"] if protected else ["found", "CANARY"])
    finally:
        for ring in (SESSION, USER):
            left_over = tools["call"](KEYCTL, tools["SEARCH"], ctypes.c_int(ring), b"user", name.encode(), 0)
            if left_over >= 0:
                tools["call"](KEYCTL, UNLINK, left_over, ctypes.c_int(ring))


def test_the_command_is_the_same_process_with_the_usual_signals_and_an_empty_environment():
    command = [*OWN_KEYRING, "sh", "-c", "echo $$; env; grep SigIgn /proc/self/status"]
    process = subprocess.Popen(command, env={}, stdout=subprocess.PIPE, text=True)
    lines = process.communicate()[0].splitlines()
    assert lines[0] == str(process.pid)
    ignored = int(lines[-1].split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)
    assert all(line.startswith(("PWD=", "_=", "SHLVL=", "OLDPWD=")) for line in lines[1:-1])


@pytest.mark.parametrize(("number", "status"), [(1, 7), (38, 7), (122, 1)], ids=["EPERM", "ENOSYS", "EDQUOT"])
def test_without_a_keyring_of_its_own_nothing_runs_unless_nobody_can_have_one(number, status):
    failing = f"""
import ctypes
class Kernel:
    def syscall(self, *arguments):
        ctypes.set_errno({number})
        return -1
ctypes.CDLL = lambda *arguments, **options: Kernel()
"""
    *python, code = OWN_KEYRING
    done = subprocess.run([*python, failing + code, "sh", "-c", "exit 7"], capture_output=True, text=True)
    assert done.returncode == status
    assert ("no session keyring of its own: Disk quota exceeded" in done.stderr) == (status == 1)
    assert sys.executable == python[0]
