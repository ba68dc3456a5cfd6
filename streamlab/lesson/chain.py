"""The chain from a file to a client, and where the bytes are when the client stops reading.

A download passes four places: the server's process, the kernel's send buffer, its receive buffer,
and the client's program. `chain_of` measures how many bytes of the body are in each of them, and
`chain_chart` draws what it found. All sizes are in bytes.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from urllib.parse import urlsplit

from streamlab.errors import DownloadError, MeterError
from streamlab.files import KiB, SampleFile, size_text
from streamlab.lesson.charts import INK, LOAD_ALL, RIVER, Chart, canvas
from streamlab.lesson.verdicts import Verdicts
from streamlab.process.patience import PatientSocket, settled
from streamlab.process.proc import connection_queues, positions
from streamlab.process.server import Server

HEAD_AT_MOST = 64 * KiB
PATIENCE = 10.0
"""Seconds that the client waits for the head and its first bytes."""
PLACES = ("server's process", "send buffer", "receive buffer", "client's program")


@dataclass(frozen=True)
class Chain:
    """How many bytes of a body are in each place of the chain."""

    in_process: int
    """Read from the file, and not handed to the kernel."""
    send_buffer: int
    receive_buffer: int
    in_client: int
    """What the client's program has read."""

    @property
    def read(self) -> int:
        """How many bytes the server has read from the file: the sum of the chain."""
        return sum(astuple(self))

    @property
    def in_kernel(self) -> int:
        """Both buffers of the connection."""
        return self.send_buffer + self.receive_buffer


def chain_of(server: Server, file: SampleFile, first: int = 64 * KiB) -> Chain:
    """Where the bytes of `file` are when a client has read `first` bytes of it and stopped.

    `server` serves the folder that `file` lies in. How far it has read is the position of its
    descriptor (proc_pid_fdinfo(5), `pos`). If it has closed the file, it has read all of it.
    `sendfile` does not move the position, so for such a server nothing is in the process. Raises
    `DownloadError` if the answer does not begin, and `MeterError` off Linux.
    """
    with _stalled(server, file, first) as (client, peer):
        settled(lambda: sum(positions(server.supervisor_pid, file.path)))
        queues = connection_queues(client, peer)
        if queues is None:
            raise MeterError("the queues of a connection can't be read here")
        unsent, unread = queues
        open_at = positions(server.supervisor_pid, file.path)
        read = max(open_at) if open_at else file.size
        return Chain(max(0, read - unsent - unread - first), unsent, unread, first)


@contextmanager
def _stalled(
    server: Server, file: SampleFile, first: int
) -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
    """A client that has read `first` bytes of a body; its address and the server's."""
    address = urlsplit(server.url)
    with PatientSocket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE)
        try:
            client.connect((address.hostname, address.port))
            client.sendall(f"GET {file.url} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                # A byte at a time: what follows the head stays in the receive buffer.
                if not (byte := client.recv(1)) or len(head) == HEAD_AT_MOST:
                    raise DownloadError(f"{server.name} sent no complete head")
                head += byte
            left = first
            while left:
                if not (piece := client.recv(left)):
                    raise DownloadError(f"{server.name} sent fewer than {first} bytes")
                left -= len(piece)
        except OSError as error:
            raise DownloadError(f"{server.name} did not answer: {error}") from error
        yield client.getsockname()[:2], client.getpeername()[:2]


def chain_chart(chains: Mapping[str, Chain], title: str, shows: Verdicts) -> Chart:
    """A row for each server, a vessel for each place, filled to one scale for all of them."""
    from matplotlib.patches import FancyArrowPatch, Rectangle

    most = max(value for chain in chains.values() for value in astuple(chain)[:-1]) or 1
    width, height, step = 0.62, 0.62, 1.25
    with canvas(width=9.2, height=0.9 + 1.35 * len(chains)) as (figure, [axes]):
        for row, (label, chain) in enumerate(chains.items()):
            floor = -row * step
            axes.text(-0.12, floor + height / 2, label, ha="right", va="center", weight="bold")
            for place, (name, size) in enumerate(zip(PLACES, astuple(chain), strict=True)):
                full = min(1.0, size / most)
                colour = LOAD_ALL if place == 0 else RIVER
                axes.add_patch(Rectangle((place, floor), width, height * full, color=colour))
                axes.plot(
                    [place, place, place + width, place + width],
                    [floor + height, floor, floor, floor + height],
                    color=INK,
                    linewidth=2.5,
                )
                axes.text(place + width / 2, floor + height + 0.05, size_text(size), ha="center")
                if row == len(chains) - 1:
                    axes.text(place + width / 2, floor - 0.08, name, ha="center", va="top")
                if place:
                    ends = ((place - 1 + width + 0.04, floor + 0.2), (place - 0.04, floor + 0.2))
                    axes.add_patch(
                        FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=12, color=INK)
                    )
        axes.set_title(title)
        axes.set_xlim(-0.2, len(PLACES) - 1 + width + 0.1)
        axes.set_ylim(-(len(chains) - 1) * step - 0.35, height + 0.3)
        axes.set_axis_off()
        return Chart(figure, title, shows)
