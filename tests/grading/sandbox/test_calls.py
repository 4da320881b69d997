import errno
import json
import os
import platform
from contextlib import ExitStack
from dataclasses import replace

import pytest

from grading.core.errors import GradingError
from grading.sandbox import calls
from grading.sandbox.calls import DENIED, NUMBERS, UNKNOWN, Denied, compiled, open_filter
from grading.sandbox.run import Limits
from tests.grading.sandboxed import ATTACKS, needs_sandbox, run, without_filter

LIBC = """
import ctypes, errno, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"

def call(number, *arguments):
    ctypes.set_errno(0)
    done = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return errno.errorcode[ctypes.get_errno()] if done < 0 else "done"

def opened(*kind):
    try:
        socket.socket(*kind).close()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
"""

ROOMY = Limits(seconds=120.0)


def said(folder, code: str, **options) -> object:
    (folder / "code.py").write_text(LIBC + code)
    result = run("python3 code.py", folder, ROOMY, **options)
    assert result.exit_status == 0, result.log
    return json.loads(result.log.splitlines()[-1])


@pytest.fixture(params=[True, False], ids=["protected", "unprotected"])
def protected(request, monkeypatch):
    if not request.param:
        without_filter(monkeypatch)
    return request.param


@needs_sandbox
def test_calls_that_attack_the_kernel_are_refused_and_answer_without_the_filter(folder, protected):
    result = run("python3 calls.py", ATTACKS / "system_calls")
    answered = result.log.split()
    if protected:
        assert (answered, result.exit_status) == ([], 1)
    else:
        assert {"ptrace", "kcmp", "hidden", "personality"} <= set(answered)


@needs_sandbox
def test_refused_calls_fail_as_on_a_kernel_that_lacks_them_so_that_programs_fall_back(folder):
    found = said(
        folder,
        """
print(json.dumps({
    "io_uring": call(425, 8, ctypes.create_string_buffer(256)), "clone3": call(435, 0, 0), "memfd_secret": call(447, 0),
    "vsock": opened(40, 1), "packet": opened(17, 3), "crypto": opened(38, 5), "diagnosis": opened(16, 3, 4),
    "unspecified": opened(0, 1), "bpf": call(321 if X86 else 280, 0, 0, 0), "mount": call(430, b"tmpfs", 0),
    "future": [call(number) for number in (470, 511)],
    "pair": call(53 if X86 else 199, 2, 1, 0, ctypes.create_string_buffer(8)),
}))
""",
    )
    assert found == {
        "io_uring": "ENOSYS", "clone3": "ENOSYS", "memfd_secret": "ENOSYS", "vsock": "EAFNOSUPPORT",
        "packet": "EAFNOSUPPORT", "crypto": "EAFNOSUPPORT", "diagnosis": "EPROTONOSUPPORT",
        "unspecified": "EAFNOSUPPORT", "bpf": "EPERM", "mount": "EPERM", "future": ["ENOSYS", "ENOSYS"],
        "pair": "EAFNOSUPPORT",
    }  # fmt: skip


@needs_sandbox
def test_no_flag_of_clone_makes_a_namespace(folder):
    code = """
def clone(flag):
    child = libc.syscall(ctypes.c_long(56 if X86 else 220), ctypes.c_long(flag | 17), 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    return errno.errorcode[ctypes.get_errno()] if child < 0 else "done"

print(json.dumps([clone(flag) for flag in (0, 1 << 17, *(1 << bit for bit in range(25, 31)))]))
"""
    assert said(folder, code) == ["done"] + ["EPERM"] * 7


@needs_sandbox
def test_bits_that_the_kernel_does_not_read_hide_no_argument(folder, protected):
    found = said(
        folder,
        """
socket_, prctl, ioctl, personality = (41, 157, 16, 135) if X86 else (198, 167, 29, 92)
above = 1 << 32
terminal = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
byte = ctypes.create_string_buffer(b"x")
print(json.dumps([
    call(socket_, above | 40, 1, 0), call(socket_, above | 16, 3, 4), call(socket_, 16, 3, above | 4),
    call(prctl, above | 4, 0, 0, 0, 0), call(ioctl, terminal, above | 0x5412, byte), call(personality, above | 0x40000),
]))
""",
    )
    refused = ["EAFNOSUPPORT", "EAFNOSUPPORT", "EPROTONOSUPPORT", "EPERM", "EPERM", "EPERM"]
    assert (found == refused) == protected
    if not protected:
        assert "done" in (found[3], found[5])


@needs_sandbox
def test_a_personality_can_be_asked_for_and_be_harmless(folder):
    code = """
number = 135 if X86 else 92
values = (0xFFFFFFFF, 0, 8, 0x20000, 0x20008, 0, 0x40000, 0x80040000, 0xFFFFFFFE, 0x400000, 1)
print(json.dumps([call(number, value) for value in values]))
"""
    assert said(folder, code) == ["done"] * 6 + ["EPERM"] * 5


@needs_sandbox
@pytest.mark.skipif(platform.machine() != "x86_64", reason="has calls of 32 bits")
def test_calls_of_other_architectures_are_refused(folder):
    code = """
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex("53 b8 14 00 00 00 cd 80 5b c3"))  # push rbx; getpid of i386, by int 0x80; pop rbx; ret
place = ctypes.addressof(ctypes.c_char.from_buffer(page))
answer = ctypes.CFUNCTYPE(ctypes.c_int)(place)()
print(json.dumps([answer, call(0x40000000 | 39)]))
os._exit(0)
"""
    assert said(folder, code) == [-errno.ENOSYS, "ENOSYS"]


@needs_sandbox
def test_what_usual_programs_need_works(folder):
    found = said(
        folder,
        """
import ctypes.util, multiprocessing.shared_memory, subprocess, threading
from concurrent.futures import ProcessPoolExecutor
heard = []
thread = threading.Thread(target=lambda: heard.append(1))
thread.start(); thread.join()
libc.prctl(15, b"worker", 0, 0, 0)
os.sched_setaffinity(0, os.sched_getaffinity(0))
shared = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
shared.unlink(); shared.close()
with ProcessPoolExecutor(2) as pool:
    heard.append(sum(pool.map(abs, [-1, -2])))
nodes = ctypes.create_string_buffer(128)
print(json.dumps([
    heard, open("/proc/self/comm").read().strip(), subprocess.run(["true"]).returncode, os.system("true | true"),
    [name for _, name in socket.if_nameindex()], [each[4][0] for each in socket.getaddrinfo("127.0.0.1", 80)][:1],
    os.memfd_create("m") > 2, call(239 if X86 else 236, 0, nodes, 1024, 0, 0), opened(1, 1), opened(2, 1),
    opened(10, 1), len(socket.socketpair()),
]))
""",
    )
    assert found == [[1, 3], "worker", 0, 0, ["lo"], ["127.0.0.1"], True, "done", "done", "done", "done", 2]


TORCH = """
import json, sys
import torch
import torch.multiprocessing as multiprocessing
from torch.utils.data import DataLoader, TensorDataset

def double(tensor):
    tensor *= 2

def main():
    data = TensorDataset(torch.arange(8.0))
    loaded = [DataLoader(data, 2, num_workers=2, multiprocessing_context=how) for how in {loaders}]
    sums = [sum(batch.sum().item() for (batch,) in each) for each in loaded]
    for strategy in ("file_descriptor", "file_system"):
        multiprocessing.set_sharing_strategy(strategy)
        shared = torch.ones(4).share_memory_()
        process = multiprocessing.get_context({start}).Process(target=double, args=(shared,))
        process.start(); process.join()
        sums.append(shared.sum().item())
    weight = torch.ones(64, 64, requires_grad=True)
    torch.nn.functional.conv2d(torch.ones(1, 1, 64, 64), weight[None, None, :3, :3]).sum().backward()
    print(json.dumps([*sums, weight.grad.sum().item() > 0]))

if __name__ == "__main__":
    main()
"""


@needs_sandbox
@pytest.mark.parametrize(
    ("loaders", "start"),
    [
        (["fork"], "fork"),
        pytest.param(["fork", "forkserver"], "spawn", marks=[pytest.mark.slow, pytest.mark.long]),  # 5 times PyTorch
    ],
)
def test_workers_of_data_loaders_and_shared_tensors_of_pytorch_work(folder, loaders, start):
    (folder / "loaders.py").write_text(TORCH.replace("{loaders}", repr(loaders)).replace("{start}", repr(start)))
    result = run("python3 loaders.py", folder, ROOMY)
    assert json.loads(result.log.splitlines()[-1]) == [*[28.0] * len(loaders), 8.0, 8.0, True], result.log


@needs_sandbox
def test_the_filter_holds_for_the_sandboxs_first_process_too_and_cannot_be_taken_off(folder):
    found = run("grep -h ^Seccomp: /proc/1/status /proc/self/status; ls /proc/self/fd", folder).log.split()
    assert found == ["Seccomp:", "2", "Seccomp:", "2", "0", "1", "2", "3"]  # 3 is the folder that ls reads


def test_each_row_has_a_reason_of_its_own_and_calls_that_this_machine_knows():
    import pyseccomp

    assert len({row.reason for row in DENIED}) == len(DENIED)
    known = {name: pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) for row in DENIED for name in row.calls}
    unknown = {name for name, number in known.items() if number == -1}
    assert unknown <= NUMBERS.keys()
    assert {name: known[name] for name in NUMBERS if known[name] >= 0} == {
        name: number for name, number in NUMBERS.items() if known[name] >= 0
    }
    assert not set(NUMBERS.values()) & set(UNKNOWN)


@needs_sandbox
def test_a_further_row_is_in_force(folder, monkeypatch):
    more = (*DENIED, Denied("is tried here", ("getppid",), errno.EDOM))
    monkeypatch.setattr("grading.sandbox.bubblewrap.open_filter", lambda resources: open_filter(resources, more))
    assert said(folder, "print(json.dumps(call(110 if X86 else 173)))") == "EDOM"


@needs_sandbox
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError(), r"^pyseccomp is not installed, and .*; install it \(pip install pyseccomp\), or trust"),
        (RuntimeError(), r"^libseccomp is not installed, and .*; install it \(apt-get install libseccomp2\), or trust"),
        (AttributeError(), r"^libseccomp is not installed"),
    ],
)
def test_without_libseccomp_strangers_code_is_not_run(folder, monkeypatch, error, said):
    def refuse(name):
        raise error

    compiled.cache_clear()
    monkeypatch.setattr(calls.importlib, "import_module", refuse)
    with pytest.raises(GradingError, match=said) as refused:
        run("touch ran", folder)
    assert refused.value.option == "trust"
    assert "--" not in str(refused.value)


def test_a_libseccomp_that_lacks_what_is_needed_is_refused(monkeypatch):
    import pyseccomp

    def refuse(*_arguments):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(pyseccomp.SyscallFilter, "export_bpf", refuse)
    with pytest.raises(GradingError, match=r"libseccomp is too old \(Invalid argument\), and untrusted code"):
        compiled((replace(DENIED[0], reason="not in the cache"),))


def test_the_filter_is_read_from_its_beginning_by_each_run():
    with ExitStack() as resources:
        read = [os.read(open_filter(resources), 2**16) for _ in range(2)]
    assert read[0] == read[1]
    assert len(read[0]) % 8 == 0
    assert 0 < len(read[0]) // 8 < 4096  # the most instructions that a kernel takes
