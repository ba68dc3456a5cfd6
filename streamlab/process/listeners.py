"""Whose socket it is that listens where a program says that it does."""

from __future__ import annotations

import sys
from contextlib import suppress

from streamlab.errors import MeterError, ProcessGoneError
from streamlab.process import proc
from streamlab.process.proc import group_members, in_proc, open_files, read_proc


def listens_elsewhere(pid: int, port: int) -> bool:
    """Whether it is somebody else who takes the connections to 127.0.0.1:`port`.

    That is: a socket that listens there, in the network namespace of `pid`, is none that `pid` or
    its descendants have open. Their numbers (inodes) stand in the kernel's tables `tcp` and `tcp6`
    and among the descriptors (Linux kernel, proc_net_tcp.rst). No where nobody listens, where those
    descriptors can't be read, and off Linux.
    """
    there = _listening(pid, "tcp", {in_proc("127.0.0.1", port), in_proc("0.0.0.0", port)})
    if not there:  # sockets of IPv6 take what no socket of IPv4 does
        mapped = "0" * 16 + ("FFFF0000" if sys.byteorder == "little" else "0000FFFF")
        ends = {f"{'0' * 32}:{port:04X}", mapped + in_proc("127.0.0.1", port)}
        there = _listening(pid, "tcp6", ends)
    if not there:
        return False
    try:
        own = {each for member in group_members(pid) for each in _open_now(member)}
    except MeterError:
        return False
    return not there <= own


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
