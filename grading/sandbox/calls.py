"""The system calls that no command may use, as a filter that the kernel applies (seccomp).

All other calls stay: glibc, PyTorch and CUDA need many. A call that is refused fails like on a kernel that lacks it or
on a machine that forbids it, so that programs fall back. On its own, a filter protects from faults in the kernel's less
used parts; namespaces, which it keeps closed, hide the host. Docker and Flatpak have similar lists (moby,
profiles/seccomp/default.json; flatpak, common/flatpak-run.c).
"""

from __future__ import annotations

import errno
import functools
import importlib
import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from grading.core.errors import GradingError

Comparison = Literal["LT", "EQ", "NE", "GT", "MASKED_EQ"]

Condition = tuple[int, Comparison, int, int]
"""The number of an argument, how it is compared, the mask of MASKED_EQ or else the value, the value of MASKED_EQ."""


@dataclass(frozen=True)
class Denied:
    """System calls that fail with `error`, and why. cases: they fail if all conditions of a case hold; or always."""

    reason: str
    calls: tuple[str, ...]
    error: int = errno.EPERM
    cases: tuple[tuple[Condition, ...], ...] = ((),)


AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
FAMILIES = (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK)

NETLINK_ROUTE = 0
"""The only protocol of AF_NETLINK that glibc uses, for getaddrinfo and if_nameindex."""

NAMESPACES = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. Only unshare and clone3 can ask for NEWTIME."""

TIOCSTI, TIOCLINUX = 0x5412, 0x541C

HARMLESS_PERSONALITY, ASK_PERSONALITY = 0x20008, 0xFFFFFFFF
"""PER_LINUX32 and UNAME26, and the value that only asks."""

PR_SET_DUMPABLE, DUMPABLE = 4, 1

INT = 0xFFFFFFFF
"""The part of an argument that the kernel reads as an int. The rest may hold anything."""


def _bits(argument: int, mask: int, value: int) -> tuple[Condition, ...]:
    return ((argument, "MASKED_EQ", mask, value),)


def _other_families() -> tuple[tuple[Condition, ...], ...]:
    """An argument with anything above its int is a family of its own here, and refused."""
    between = (family for family in range(max(FAMILIES)) if family not in FAMILIES)
    return (*(((0, "EQ", family, 0),) for family in between), ((0, "GT", max(FAMILIES), 0),))


def _other_personalities() -> tuple[tuple[Condition, ...], ...]:
    """Values with the highest bit are harmless if they have all bits, others if they have harmless bits alone."""
    top = 1 << 31
    bits = [1 << bit for bit in range(31)]
    low = [_bits(0, top | bit, bit) for bit in bits if not bit & HARMLESS_PERSONALITY]
    return (*low, *(_bits(0, top | bit, top) for bit in bits))


DENIED = (
    Denied("runs I/O in the kernel, past this filter", ("io_uring_setup", "io_uring_enter", "io_uring_register"),
           errno.ENOSYS),
    Denied("stops the kernel in the middle of a copy, which most attacks on it use", ("userfaultfd",)),
    Denied("reads and leaves keys that namespaces do not hide", ("keyctl", "add_key", "request_key"), errno.ENOSYS),
    Denied("reaches other machines, kernel crypto and drivers past the network namespace", ("socket",),
           errno.EAFNOSUPPORT, _other_families()),
    Denied("configures the kernel, which glibc never needs", ("socket",), errno.EPROTONOSUPPORT,
           (((0, "EQ", AF_NETLINK, 0), (2, "NE", NETLINK_ROUTE, 0)),)),
    Denied("is the same for pairs, which only AF_UNIX has", ("socketpair",), errno.EAFNOSUPPORT,
           (((0, "NE", AF_UNIX, 0),),)),
    Denied("reads and changes other processes", ("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise",
           "pidfd_getfd", "kcmp")),
    Denied("hides memory from the grader and the kernel", ("memfd_secret",), errno.ENOSYS),
    Denied("hides the memory of a process from a grader that is not root", ("prctl",), errno.EPERM,
           ((*_bits(0, INT, PR_SET_DUMPABLE), (1, "NE", DUMPABLE, 0)),)),
    Denied("runs programs in the kernel", ("bpf",)),
    Denied("measures the whole machine", ("perf_event_open", "lookup_dcookie")),
    Denied("changes mounts", ("mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick",
           "open_tree", "open_tree_attr", "move_mount", "mount_setattr")),
    Denied("tells mounts in a newer way", ("statmount", "listmount"), errno.ENOSYS),
    Denied("enters and makes namespaces", ("unshare", "setns")),
    Denied("is the same by clone", ("clone",), errno.EPERM, tuple(_bits(0, flag, flag) for flag in NAMESPACES)),
    Denied("has its flags in memory, where no filter can read them; glibc then uses clone", ("clone3",), errno.ENOSYS),
    Denied("opens files by numbers, past folders that are closed", ("open_by_handle_at", "name_to_handle_at")),
    Denied("watches files of the whole file system", ("fanotify_init", "fanotify_mark")),
    Denied("administers the machine", ("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
           "swapon", "swapoff", "reboot", "acct", "quotactl", "quotactl_fd", "settimeofday", "clock_settime",
           "sethostname", "setdomainname", "syslog", "iopl", "ioperm", "vhangup", "nfsservctl")),
    Denied("is old, and no program of today uses it", ("uselib", "ustat", "sysfs", "_sysctl", "modify_ldt")),
    Denied("switches off the randomness of addresses and other protections", ("personality",), errno.EPERM,
           _other_personalities()),
    Denied("types into a terminal", ("ioctl",), errno.EPERM,
           tuple(_bits(1, INT, request) for request in (TIOCSTI, TIOCLINUX))),
)  # fmt: skip
"""All that is refused. A further row needs no other change."""

NUMBERS = {
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "clone3": 435, "pidfd_getfd": 438,
    "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447, "statmount": 457,
    "listmount": 458, "open_tree_attr": 467,
}  # fmt: skip
"""The calls that an older libseccomp may not know. Since Linux 5.1, a call has one number on all architectures."""

UNKNOWN = range(470, 512)
"""Numbers of calls that Linux 6.18 does not have. They fail until somebody has read what they do."""

BINARY_TREE = 2
"""libseccomp's way to search for a call in the filter that takes the fewest steps."""


def open_filter(resources: ExitStack, rows: tuple[Denied, ...] = DENIED) -> int:
    """A descriptor to read the filter from, for bubblewrap's --seccomp. Raises GradingError without libseccomp."""
    descriptor = os.memfd_create("filter")
    resources.callback(os.close, descriptor)
    os.write(descriptor, compiled(rows))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


@functools.cache
def compiled(rows: tuple[Denied, ...] = DENIED) -> bytes:
    """The filter as the kernel's program for this machine. Calls of other architectures fail in it.

    Raises GradingError if libseccomp is missing, or too old for a row.
    """
    seccomp = _seccomp()
    try:
        made = seccomp.SyscallFilter(seccomp.ALLOW)
        made.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.ERRNO(errno.ENOSYS))
        with suppress(OSError):  # before libseccomp 2.5: the same filter, slower
            made.set_attr(seccomp.Attr.CTL_OPTIMIZE, BINARY_TREE)
        for row in rows:
            _add(seccomp, made, row)
        for number in UNKNOWN:
            made.add_rule(seccomp.ERRNO(errno.ENOSYS), number)
        return _exported(made)
    except OSError as error:
        raise _unfiltered(f"libseccomp is too old ({error.strerror})", "apt-get install libseccomp2") from None


def _add(seccomp: ModuleType, made: object, row: Denied) -> None:
    for name in row.calls:
        number = NUMBERS.get(name) or seccomp.resolve_syscall(seccomp.Arch.NATIVE, name)
        if number < 0:
            continue  # this architecture has no such call
        for case in row.cases:
            arguments = [seccomp.Arg(index, getattr(seccomp, how), *values) for index, how, *values in case]
            made.add_rule(seccomp.ERRNO(row.error), number, *arguments)  # type: ignore[attr-defined]


def _exported(made: object) -> bytes:
    descriptor = os.memfd_create("filter")
    with os.fdopen(descriptor, "rb") as file:
        made.export_bpf(file)  # type: ignore[attr-defined]
        file.seek(0)
        return file.read()


def _seccomp() -> ModuleType:
    try:
        module: ModuleType = importlib.import_module("pyseccomp")
    except ImportError:
        raise _unfiltered("pyseccomp is not installed", "pip install pyseccomp") from None
    except (RuntimeError, OSError, AttributeError):  # pyseccomp finds no libseccomp, or one that lacks functions
        raise _unfiltered("libseccomp is not installed", "apt-get install libseccomp2") from None
    return module


def _unfiltered(found: str, command: str) -> GradingError:
    return GradingError(
        f"{found}, and untrusted code does not run without its filter of system calls; install it ({command}), or "
        "trust the code if it is your own",
        option="trust",
    )
