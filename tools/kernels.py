"""Run a command as on another kernel: in a network namespace with other settings for TCP.

    python tools/kernels.py --kernel debian -- COMMAND ...

The namespace has loopback alone, and ends with the last process in it. `here` makes no namespace:
the command runs with the machine's settings. The settings of the machine itself do not change.
Standard library only; `unshare` of util-linux makes the namespace, as root or as an ordinary user.

A namespace inside this one, such as bubblewrap makes for a sandbox, starts with the settings of the
machine, and not with those of this one.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KiB = 1 << 10
MiB = 1 << 20

SETTINGS = Path("/proc/sys/net/ipv4")
"""Where the kernel shows the settings of the network namespace of the process that asks."""

LOOPBACK_MTU = 65536
UP, SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFMTU = 1, 0x8913, 0x8914, 0x8922
"""From the kernel's linux/if.h and linux/sockios.h."""


@dataclass(frozen=True)
class Kernel:
    """Settings for TCP: least, first and largest size of a connection's buffers, in bytes.

    `rmem` is net.ipv4.tcp_rmem, `wmem` net.ipv4.tcp_wmem (tcp(7)); `mtu` (bytes) is that of the
    loopback interface.
    """

    rmem: tuple[int, int, int]
    wmem: tuple[int, int, int]
    mtu: int = LOOPBACK_MTU

    def says(self) -> dict[str, str]:
        """The settings as the kernel shows them, by name."""
        named = {"tcp_rmem": self.rmem, "tcp_wmem": self.wmem}
        return {name: "\t".join(map(str, sizes)) for name, sizes in named.items()}


DEBIAN = Kernel((4096, 128 * KiB, 6 * MiB), (4096, 16 * KiB, 4 * MiB))

KERNELS: dict[str, Kernel | None] = {
    "debian": DEBIAN,
    "small": Kernel((4096, 64 * KiB, 1 * MiB), (4096, 16 * KiB, 512 * KiB)),
    "mtu1500": Kernel(DEBIAN.rmem, DEBIAN.wmem, mtu=1500),
    "large": Kernel((4096, 128 * KiB, 64 * MiB), (4096, 64 * KiB, 64 * MiB)),
    "here": None,
}
"""The kernels to choose from. `debian`: what Debian and Ubuntu ship. `here`: this machine."""

INSIDE = "--inside"
"""The option that says that the namespace exists and has to be set up."""


class NoNamespace(Exception):
    """Why there is no namespace with other settings; one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Replace this process by the command; 1, and one line, if its kernel can't be had."""
    options = _options(arguments)
    kernel = KERNELS[options.kernel]
    try:
        if kernel is None:
            command = options.command
        elif options.inside is not None:
            command = [*_as_user(options.inside), *options.command]
            set_up(kernel)
        else:
            command = entered(options.kernel, options.command)
        os.execvp(command[0], command)
    except (NoNamespace, OSError) as error:
        print(f"kernels.py: {error}", file=sys.stderr)
    return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kernels.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kernel", required=True, choices=KERNELS, help="whose settings")
    parser.add_argument(INSIDE, metavar="UID:GID", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="+", help="what to run there, after --")
    return parser.parse_args(arguments)


def entered(name: str, command: Sequence[str]) -> list[str]:
    """The command that runs `command` with the settings of that name.

    Root stays root. An ordinary user becomes root of a user namespace, which sets up the network,
    and then the same user again. Raises NoNamespace if a tool is missing.
    """
    if KERNELS[name] is None:
        return list(command)
    if sys.platform != "linux":
        raise NoNamespace("network namespaces need Linux")
    if shutil.which("unshare") is None:
        raise NoNamespace("unshare is missing: install util-linux")
    root = os.geteuid() == 0
    ids = "" if root else f"{os.getuid()}:{os.getgid()}"
    made = ["unshare", "--net"] if root else ["unshare", "--user", "--map-root-user", "--net"]
    this = str(Path(__file__).resolve())
    again = [sys.executable, this, f"--kernel={name}", f"{INSIDE}={ids}"]
    return [*made, "--", *again, "--", *command]


def _as_user(ids: str) -> list[str]:
    """The command that makes root of a user namespace an ordinary user with these numbers again."""
    if not ids:
        return []
    user, group = ids.split(":")
    return ["unshare", "--user", f"--map-user={user}", f"--map-group={group}", "--"]


def set_up(kernel: Kernel) -> None:
    """Give this process's network namespace the settings, and bring loopback up.

    Raises NoNamespace if the kernel does not take them, or if the namespace is one that has been
    in use: it has another interface, or its loopback is up.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        if [name for _, name in socket.if_nameindex() if name != "lo"] or _flags(control) & UP:
            raise NoNamespace("this network namespace is in use: nothing was changed")
        request = struct.pack("16si12x", b"lo", kernel.mtu)
        fcntl.ioctl(control, SIOCSIFMTU, request)
        request = struct.pack("16sh14x", b"lo", _flags(control) | UP)
        fcntl.ioctl(control, SIOCSIFFLAGS, request)
    for name, sizes in kernel.says().items():
        file = SETTINGS / name
        try:
            file.write_text(sizes)
            there = file.read_text().strip()
        except OSError as error:
            raise NoNamespace(f"{file} can't be set here: {error.strerror}") from error
        if there != sizes:
            raise NoNamespace(f"{file} is {there!r}, not {sizes!r}")


def _flags(control: socket.socket) -> int:
    answer = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
    flags: int = struct.unpack("16sh14x", answer)[1]
    return flags


def unavailable_reason(name: str) -> str:
    """Why the settings of that name can't be had here, in one line; empty if they can."""
    try:
        trial = entered(name, ["true"])
        ended = subprocess.run(trial, capture_output=True, text=True, timeout=60, check=False)
    except (NoNamespace, OSError, subprocess.TimeoutExpired) as error:
        return " ".join(str(error).split())
    if ended.returncode == 0:
        return ""
    said = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
    return said[-1].removeprefix("kernels.py: ")


if __name__ == "__main__":
    sys.exit(main())
