"""Whose socket it is that listens where a program says that it does."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from typing import Literal

from streamlab.errors import MeterError, ProcessGoneError
from streamlab.process import proc
from streamlab.process.proc import group_members, in_proc, open_files, read_proc

Holder = Literal["own", "other", "unknown"]
"""Whose a listening socket is: the process's own or its descendants', another one's, or not known:
nobody listens, the descriptors can't be read, or the system is not Linux."""


def listens_elsewhere(pid: int, port: int) -> bool:
    """Whether it is somebody else who takes the connections to 127.0.0.1:`port`: `holder_of`."""
    return holder_of(pid, port) == "other"


def holder_of(pid: int, port: int, host: str = "127.0.0.1") -> Holder:
    """Whose socket takes the connections to `host`:`port`, an address of this machine.

    It is another one's if a socket that listens there, in the network namespace of `pid`, is none
    that `pid` or its descendants have open. Their numbers (inodes) stand in the kernel's tables
    `tcp` and `tcp6` and among the descriptors (Linux kernel, proc_net_tcp.rst).
    """
    there: set[str] = set()
    if ":" in host:
        there = _listening(pid, "tcp6", {in_proc6(host, port), in_proc6("::", port)})
    else:
        there = _listening(pid, "tcp", {in_proc(host, port), in_proc("0.0.0.0", port)})
        if not there:  # sockets of IPv6 take what no socket of IPv4 does
            ends = {in_proc6("::", port), in_proc6(f"::ffff:{host}", port)}
            there = _listening(pid, "tcp6", ends)
    if not there:
        return "unknown"
    try:
        own = {each for member in group_members(pid) for each in _open_now(member)}
    except MeterError:
        return "unknown"
    return "own" if there <= own else "other"


def in_proc6(host: str, port: int) -> str:
    """An address of IPv6 as `tcp6` has it: four numbers of this machine's byte order."""
    raw = socket.inet_pton(socket.AF_INET6, host)
    words = [int.from_bytes(raw[at : at + 4], sys.byteorder) for at in range(0, 16, 4)]
    return f"{''.join(f'{word:08X}' for word in words)}:{port:04X}"


def _listening(pid: int, table: str, ends: set[str]) -> set[str]:
    """The sockets that listen (state 0A) on one of these addresses, as descriptors have them."""
    found = set()
    with suppress(OSError):
        for line in read_proc(proc.PROC / str(pid) / "net" / table).splitlines():
            fields = line.split()
            if fields[1] in ends and fields[3] == "0A":
                found.add(f"socket:[{fields[9]}]")
    return found


def _open_now(pid: int) -> list[str]:
    try:
        return open_files(pid)
    except ProcessGoneError:
        return []
