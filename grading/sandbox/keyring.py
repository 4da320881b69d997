"""Starts a command with a session keyring of its own, so that it finds none of the grader's keys.

The kernel keeps keys for a user's programs, such as passwords of network disks. Namespaces do not hide them: a command
inherits its session keyring, and may use all that is in it. runc and isolate protect from this in the same way.
"""

from __future__ import annotations

import sys

JOIN = """
import ctypes, errno, os, platform, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
keyctl = {"x86_64": 250, "ppc64le": 271, "s390x": 280}.get(platform.machine(), 219)
KEYCTL_JOIN_SESSION_KEYRING = 1
if libc.syscall(ctypes.c_long(keyctl), ctypes.c_long(KEYCTL_JOIN_SESSION_KEYRING), None) < 0:
    if ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM):
        sys.exit("it gets no session keyring of its own: " + os.strerror(ctypes.get_errno()))
for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(ignored, signal.SIG_DFL)
os.execvpe(sys.argv[1], sys.argv[1:], {})
"""
"""A program of Python that joins a new session keyring and becomes the command in its arguments.

Where the kernel knows no keys, or keeps everybody from them as in Docker, the command has no access to them either. The
signals are those that Python ignores, which the command would go on ignoring.
"""

OWN_KEYRING: tuple[str, ...] = (sys.executable, "-I", "-S", "-c", JOIN)
"""Goes before a command. It has no environment, and is the same process as the command."""
