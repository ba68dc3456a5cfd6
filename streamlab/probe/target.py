"""What is measured: the address of a server, and the process that listens there."""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import psutil

from streamlab.errors import MeterError, ProbeError
from streamlab.process.listeners import holder_of
from streamlab.process.memory import memory_of
from streamlab.process.proc import exact, open_files


@dataclass(frozen=True)
class Target:
    """A URL, the address that it leads to, and the process behind it."""

    url: str
    host: str
    """For the header Host, with the port."""
    address: str
    port: int
    path: str
    """With the query."""
    pid: int | None = None
    """The server's main process; None if only what can be seen from outside is measured."""
    note: str = ""
    """What is in doubt about the process, in a sentence."""

    @property
    def ipv6(self) -> bool:
        """Whether the address is one of IPv6."""
        return ":" in self.address

    @property
    def place(self) -> str:
        """Address and port, as in a URL."""
        return f"[{self.address}]:{self.port}" if self.ipv6 else f"{self.address}:{self.port}"


def find(url: str, pid: int | None = None, *, own_host: bool = False) -> Target:
    """The target that a URL names; `own_host` allows one that is not this machine.

    Raises `ProbeError` if the URL can't be used, if nobody listens there, or if `pid` is not the
    process whose socket listens there.
    """
    parts, port = _split(url)
    addresses = _addresses(parts.hostname or "", port)
    loopback = [each for each in addresses if ipaddress.ip_address(each).is_loopback]
    if not loopback and not own_host:
        raise ProbeError(
            f"{parts.hostname} is not this machine: probe a server on 127.0.0.1, or add "
            "--i-own-this-host if the host is yours"
        )
    if not loopback and pid is not None:
        raise ProbeError(f"--pid is a process of this machine, but {parts.hostname} is another one")
    address = _that_listens(loopback or addresses, port)
    host = parts.netloc
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = Target(url, host, address, port, path, pid)
    if pid is None:
        return target
    note = _look_at_process(target, pid)
    return Target(url, host, address, port, path, pid, note)


def _split(url: str) -> tuple[SplitResult, int]:
    if not re.fullmatch(r"[!-~]+", url):
        raise ProbeError(f"{url!r} has signs that no URL has: write them as %20 and so on")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ProbeError(f"{url} is no URL: {error}") from error
    if parts.scheme == "https":
        raise ProbeError(
            "probe speaks HTTP without TLS: give the http:// address behind it, or start the "
            "server without TLS"
        )
    if parts.scheme != "http" or not parts.hostname:
        raise ProbeError(f"{url} is no URL of a server: write it like http://127.0.0.1:8000/a.bin")
    if parts.username is not None or port == 0:
        raise ProbeError(f"{url} has a user name, or port 0: leave it out")
    return parts, port or 80


def _addresses(name: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ProbeError(f"no address is known of {name!r}: correct the URL") from error
    # Servers on this machine listen on IPv4 more often.
    found.sort(key=lambda each: each[0] != socket.AF_INET)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def _that_listens(addresses: list[str], port: int) -> str:
    """The first of these addresses that takes a connection."""
    why: OSError | None = None
    for address in addresses:
        try:
            with socket.create_connection((address, port), timeout=5):
                return address
        except OSError as error:
            why = error
    reason = "nobody listens" if isinstance(why, ConnectionRefusedError) else f"no way ({why})"
    raise ProbeError(
        f"{reason} on {' or '.join(addresses)}, port {port}: start the server, or correct the URL"
    ) from why


def _look_at_process(target: Target, pid: int) -> str:
    """What is in doubt about the process; raises `ProbeError` if it is the wrong one."""
    if pid <= 0 or not psutil.pid_exists(pid):
        raise ProbeError(f"there is no process {pid}: {_who_listens(target, pid)}")
    try:
        memory_of(pid)
        if exact():
            open_files(pid)
    except MeterError as error:
        if not psutil.pid_exists(pid):
            raise ProbeError(f"process {pid} has ended: {_who_listens(target, pid)}") from error
        raise ProbeError(
            f"process {pid} may not be read, because it belongs to another user or is shut in: run "
            "the probe as that user or as root, or leave out --pid"
        ) from error
    holder = holder_of(pid, target.port, target.address)
    if holder == "other":
        raise ProbeError(
            f"process {pid} does not hold the socket that listens on port {target.port}: "
            f"{_who_listens(target, pid)}"
        )
    if holder == "unknown":
        return (
            f"Whether process {pid} listens on port {target.port} can't be seen from here, for "
            "example because it is in a container. The figures of memory are those of this process."
        )
    if pid not in (known := _holders(target)) or len(known) < 2:
        return ""
    with suppress(psutil.Error):
        parent = psutil.Process(pid).ppid()
        if parent in known:
            return (
                f"Process {pid} is a worker: its parent, {parent}, holds the same socket. Other "
                f"workers are not counted: --pid {parent} counts them."
            )
    return ""


def _who_listens(target: Target, pid: int) -> str:
    """What to give instead of a wrong number."""
    for holder in _holders(target):
        with suppress(psutil.Error):
            return f"give --pid {holder} ({psutil.Process(holder).name()}), which holds it"
    return f"`ss -ltnp 'sport = :{target.port}'` shows which process does"


def _holders(target: Target) -> list[int]:
    """The processes that hold the listening socket, parents before their children."""
    with suppress(psutil.Error, OSError):
        found = {
            each.pid
            for each in psutil.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN and each.laddr[1:2] == (target.port,) and each.pid
        }
        return sorted(found)
    return []
