"""What a server needs for its users: the laws of the chapters, and a cup that shows what fits.

A law gives bytes for all users together. What a chapter has measured goes in as an argument; a
default is what the law says without a measurement. All sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamlab.errors import CapacityError
from streamlab.files import size_text
from streamlab.lesson.charts import Chart, share_chart
from streamlab.lesson.verdicts import Row, Verdict, Verdicts, row
from streamlab.process.proc import tcp_buffers

# Laws


def load_all(users: int, file_size: float, copies: float = 1) -> float:
    """Bytes that a server holds which reads each file whole (chapter 01).

    `file_size` is in bytes. `copies` is how many times it holds the file for each user: 1 for the
    bytes alone, 2 with the text of a decoded file.
    """
    return users * file_size * copies


def joined(users: int, file_size: float, copies: float = 2) -> float:
    """Bytes that a server or client holds which collects chunks and joins them (chapter 03).

    `file_size` is in bytes. The chunks and what they are joined to are there together, so `copies`
    is 2.
    """
    return load_all(users, file_size, copies)


def chunked(users: int, chunk: float, chunks: float = 2, beside: float = 0) -> float:
    """Bytes that a server holds which reads and sends chunk by chunk (chapter 02).

    `chunk` is in bytes. `chunks` is how many of them a user costs: 2 where the next one is read
    while a name still has the last one. `beside` is what a user costs besides, in bytes: a thread
    with the used part of its stack, an open file.
    """
    return users * (chunk * chunks + beside)


def stacks(users: int, stack: float) -> float:
    """Bytes that `RLIMIT_DATA` counts for a thread for each user (chapter 06, getrlimit(2)).

    `stack` is the size of a stack in bytes, all of which counts, however little of it is used.
    """
    return users * stack


def event_loop(users: int, each: float) -> float:
    """Bytes that a server with one thread holds (chapter 06).

    `each` is what was measured for a user, in bytes: chunks, the buffer of the transport, a task.
    """
    return users * each


def stalled(users: int, send_buffer: float, receive_buffer: float = 0) -> float:
    """Bytes that the kernel holds for users who do not read (chapters 02 and 06, tcp(7)).

    Both are what one connection holds, in bytes. `receive_buffer` counts on the machine of the
    client, so it is 0 unless client and server are on one machine.
    """
    return users * (send_buffer + receive_buffer)


def gateway(users: int, each: float, send_buffer: float = 0, receive_buffer: float = 0) -> float:
    """Bytes that a gateway and its kernel hold, which has two connections a user (chapter 09).

    `each` is what its process holds for a user, `send_buffer` what the kernel holds towards the
    client and `receive_buffer` what it holds from upstream, all in bytes.
    """
    return users * each + stalled(users, send_buffer, receive_buffer)


def mixed(
    small_users: int, small_size: float, large_users: int, each: float, beside: float = 0
) -> float:
    """Bytes that a hybrid server holds (chapter 05): small files whole, large ones in chunks.

    `small_size` is the size of a small file, `each` what a user of a large one costs, and `beside`
    what a user of a small one costs besides the file, all in bytes.
    """
    return small_users * (small_size + beside) + event_loop(large_users, each)


def descriptors(users: int, idle: int = 0, each: int = 2) -> int:
    """How many descriptors a server has open (chapter 06, getrlimit(2), `RLIMIT_NOFILE`).

    A download has `each`: 2 are the connection and the file. `idle` is how many there are without
    any user.
    """
    return idle + users * each


def most_users(memory: float, each: float, idle: float = 0) -> int:
    """How many users fit into `memory`, if each costs `each` and the idle server `idle` (bytes).

    The same holds for descriptors. Raises `CapacityError` if a user costs nothing.
    """
    if each <= 0:
        raise CapacityError("a user who costs nothing can't be counted: look at the numbers")
    return max(0, int((memory - idle) // each))


# What fits, shown


class OwnNumbers:
    """A table of what a reader's numbers come to, and a cup; end a cell with it."""

    def __init__(self, table: Verdicts, chart: Chart) -> None:
        self.table = table
        self.chart = chart

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.table, self.chart)

    def __repr__(self) -> str:
        return f"{self.table!r}\n{self.chart!r}"


def cup(
    users: int,
    memory: float,
    parts: Mapping[str, float],
    idle: float = 0,
    more: Sequence[Row] = (),
) -> OwnNumbers:
    """How far `users` users fill a cup of `memory` bytes, and how many of them would fit.

    `parts` says what they need, in bytes for all of them together, such as
    `{"files": load_all(users, file_size)}`. `idle` is what the server needs without any user, in
    bytes. `more` are rows for the table. Raises `CapacityError` if there are no users, if there is
    no memory, or if a part is negative.
    """
    if users < 1 or memory <= 0:
        raise CapacityError(f"{users} users and {memory} bytes of memory: one at least of both")
    if wrong := [name for name, size in parts.items() if size < 0] or (["idle"] * (idle < 0)):
        raise CapacityError(f"{wrong[0]}: less than nothing can't be held")
    each = sum(parts.values()) / users
    needed = idle + users * each
    fits = "fits into" if needed <= memory else "more than"
    table = Verdicts(
        [
            row("each user", Verdict("by the law", size_text(each))),
            row("needed in all", Verdict(f"{fits} {size_text(memory)}", size_text(needed))),
            fit_row("users that fit", users, memory, each, idle),
            *more,
        ]
    )
    filled = {"the idle server": idle, **parts} if idle else parts
    title = f"{users:,} users, and a cup of {size_text(memory)}"
    return OwnNumbers(table, share_chart(filled, memory, title, table))


def fit_row(label: str, users: int, limit: float, each: float, idle: float = 0) -> Row:
    """A row that says whether `users` users fit into `limit`; arguments as for `most_users`."""
    return row(label, _enough(most_users(limit, each, idle), users))


def descriptor_row(users: int, limit: int, idle: int = 0, each: int = 2) -> Row:
    """A row that says whether `limit` descriptors are enough for `users` users.

    `idle` and `each` are as for `descriptors`.
    """
    return fit_row("users, by the descriptors", users, limit, each, idle)


def kernel_row() -> Row:
    """A row that says how large the kernel lets the buffers of one connection grow."""
    sizes = tcp_buffers()
    live = f"{size_text(sizes[0])} and {size_text(sizes[1])}" if sizes else "not shown here"
    return row("most for each connection", Verdict("by tcp_wmem and tcp_rmem", live))


def _enough(most: int, users: int) -> Verdict:
    """A verdict on how many users there is room for."""
    return Verdict(f"{'at least' if most >= users else 'fewer than'} {users:,}", f"{most:,}")
