"""A filter of the system calls of a sandboxed program.

It forbids calls that give memory which belongs to no process, because no look would find it
(System V memory and queues, memory files, keys), and calls that no program of a lab needs. It
allows sockets of files and of the internet's protocols alone. Others, such as vsock(7), do not
belong to a network namespace, and would lead out of it.

The filter is that of seccomp(2) (Linux kernel, Documentation/userspace-api/seccomp_filter.rst),
inherited by all that the program starts. A call that is shut fails as one that the kernel does not
have. Where the CPU is not known here, or the kernel refuses the filter, no program may start.

    python -m streamlab.process.seccomp -- CMD

becomes CMD with these doors shut, to see whether that can be done.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable

from streamlab.errors import IsolationError

_NUMBERS = {
    # <asm/unistd.h>: x86_64 has numbers of its own, later architectures share theirs
    "x86_64": {
        **{"socket": 41, "socketpair": 53, "shmget": 29, "semget": 64, "msgget": 68},
        **{"mq_open": 240, "memfd_create": 319, "add_key": 248, "request_key": 249, "keyctl": 250},
        **{"ptrace": 101, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323},
    },
    "aarch64": {
        **{"socket": 198, "socketpair": 199, "shmget": 194, "semget": 190, "msgget": 186},
        **{"mq_open": 180, "memfd_create": 279, "add_key": 217, "request_key": 218, "keyctl": 219},
        **{"ptrace": 117, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282},
    },
}
_EVERYWHERE = {"io_uring_setup": 425, "memfd_secret": 447}
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # <linux/audit.h>
_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: <linux/socket.h>
_X32 = 0x40000000  # <asm/unistd.h>: the bit of a second set of numbers on x86_64


REFUSED = "the kernel sets no filter of system calls here"
"""How the reason begins where the CPU is known, but the kernel does not take the filter."""

# <linux/bpf_common.h>, <linux/seccomp.h>, <linux/prctl.h>
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2


def program(machine: str) -> bytes:
    """The filter for a CPU, as `os.uname().machine` names it, in the kernel's form.

    Raises `IsolationError` for one that is not known here.
    """
    if machine not in _NUMBERS:
        known = " or ".join(_NUMBERS)
        raise IsolationError(f"isolation knows no filter for CPU {machine}: use one of {known}")
    shut = {**_NUMBERS[machine], **_EVERYWHERE}
    of_family = (shut.pop("socket"), shut.pop("socketpair"))
    # Each step: code, value, and how many steps to skip if so, and if not.
    refuse, allow = (_RETURN, _FAIL | errno.ENOSYS, 0, 0), (_RETURN, _ALLOW, 0, 0)
    steps = [
        *[(_LOAD, _ARCH, 0, 0), (_EQUAL, _ARCHITECTURE[machine], 1, 0), refuse],
        *[(_LOAD, _NUMBER, 0, 0), (_AT_LEAST, _X32, 0, 1), refuse],
    ]
    for number in shut.values():
        steps += [(_EQUAL, number, 0, 1), refuse]
    steps += [(_EQUAL, of_family[0], 2, 0), (_EQUAL, of_family[1], 1, 0), allow]
    steps += [(_LOAD, _FIRST_ARGUMENT, 0, 0)]
    for family in _FAMILIES:
        steps += [(_EQUAL, family, 0, 1), allow]
    steps += [(_RETURN, _FAIL | errno.EAFNOSUPPORT, 0, 0)]
    return b"".join(struct.pack("=HBBI", code, so, other, k) for code, k, so, other in steps)


def shutting() -> Callable[[], None]:
    """What a process calls to shut these doors for itself and all that it starts.

    To be had before a fork, and called after it: it imports nothing any more. Both raise
    `IsolationError` where the doors can't be shut.
    """
    if sys.platform != "linux":
        raise IsolationError("isolation needs Linux")
    code = program(os.uname().machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the number of steps of 8 bytes, padding, and where they are
    whole = ctypes.create_string_buffer(
        struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    )
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def shut() -> None:
        # What can't gain privileges may set a filter.
        for call in (
            (_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))),
            (_PR_SET_SECCOMP, ctypes.c_ulong(_FILTER), whole, *map(ctypes.c_ulong, (0, 0))),
        ):
            if prctl(*call) != 0:
                why = os.strerror(ctypes.get_errno())
                raise IsolationError(f"{REFUSED}: {why}")
        assert buffer  # the kernel has read it by now, and not before

    return shut


def main(arguments: list[str]) -> str:
    """Become the command after `--`, with the doors shut; returns why that can't be done."""
    try:
        shutting()()
        os.execvp(arguments[1], arguments[1:])
    except (IsolationError, OSError) as error:
        return str(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
