"""Ask all questions of one target, in an order in which no measurement disturbs another.

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import ipaddress
import platform
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from streamlab.errors import AnswerError, ProbeError
from streamlab.files import size_text
from streamlab.http.buffers import connection_buffer
from streamlab.http.clients import receive_buffer
from streamlab.probe import judge
from streamlab.probe.client import Budget, LimitReached
from streamlab.probe.judge import MEMORY, NO_PID, QUESTIONS, Figures, Row
from streamlab.probe.load import Plan, measure, stalled_client
from streamlab.probe.ranges import ranges
from streamlab.probe.target import Target
from streamlab.probe.wire import Whole, headed, whole
from streamlab.process.proc import PROC, exact

FEW = (1, 2, 4)
"""So many clients come to a host that is not this machine."""


@dataclass(frozen=True, repr=False)
class ProbeResult:
    """What came of all questions. A figure that was not measured is None."""

    url: str
    pid: int | None
    file_size: int
    """Bytes of the body."""
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def row(self, id: str) -> Row:
        """The row of a question, by its id; raises KeyError if it was not asked."""
        for each in self.rows:
            if each.id == id:
                return each
        raise KeyError(id)

    @property
    def bad(self) -> list[str]:
        """The ids of the questions that found something wrong."""
        return [each.id for each in self.rows if each.outcome == "bad"]

    @property
    def memory_per_client(self) -> int | None:
        """Bytes of private memory that one more waiting client costs."""
        return self._number("growth", "memory_per_client_bytes")

    @property
    def read_ahead(self) -> int | None:
        """Bytes that the server has taken for a client that stopped, and that did not go out."""
        return self._number("backpressure", "ahead_bytes")

    @property
    def descriptors_left(self) -> int | None:
        """Descriptors that each wave of clients leaves behind."""
        return self._number("leaving", "descriptors_added")

    @property
    def threads_left(self) -> int | None:
        """Threads that it leaves behind."""
        return self._number("leaving", "threads_added")

    @property
    def memory_left(self) -> int | None:
        """Bytes of memory that it leaves behind."""
        return self._number("leaving", "memory_added_bytes")

    def _number(self, id: str, name: str) -> int | None:
        figures: Figures = next((each.figures for each in self.rows if each.id == id), {})
        value = figures.get(name)
        return value if isinstance(value, int) else None

    def __str__(self) -> str:
        """All rows, one a line."""
        return "\n".join(
            f"{each.outcome:<4}  {each.question}: {each.verdict.text} [{each.verdict.live}]"
            for each in self.rows
        )

    def __repr__(self) -> str:
        """What is wrong, for the message of an `assert`, which pytest cuts."""
        told = [f"{self.row(each).question}: {self.row(each).verdict.text}" for each in self.bad]
        return f"<{self.url}: {'; '.join(told) or 'nothing is wrong'}>"


@dataclass(frozen=True)
class Wish:
    """What to ask, and how hard."""

    questions: Sequence[str] = tuple(QUESTIONS)
    plan: Plan = field(default_factory=Plan)


def examine(
    target: Target, budget: Budget, wish: Wish | None = None, doing: Callable[[str], object] = len
) -> ProbeResult:
    """Ask the questions of `wish` (default: all); `doing` is told which one is next.

    Raises `ProbeError` if the target brings no file, or one that is too small. A limit that is
    reached leaves rows that say so.
    """
    wish = wish or Wish()
    asked = [each for each in QUESTIONS if each in wish.questions]
    wish = replace(wish, plan=plan_for(target, wish.plan))
    doing("the whole file, and a second answer")
    file = whole(target, budget)
    _large_enough(file, asked, target)
    rows: dict[str, Row] = {}
    reached = ""
    for name, ask in _jobs(target, budget, wish, file).items():
        wanted = [each for each in name.split() if each in asked]
        if not wanted:
            continue
        doing(", ".join(QUESTIONS[each] for each in wanted))
        if not reached:
            try:
                rows |= {row.id: row for row in ask()}
            except LimitReached as error:
                reached = str(error)
            except (AnswerError, OSError) as error:
                for each in wanted:
                    rows[each] = judge.answer(each, "open", f"not measured: {error}")
        if reached:
            for each in wanted:
                rows[each] = judge.answer(each, "open", f"not measured: {reached}")
    found = [replace(rows[each], curl=by_hand(rows[each], target, file)) for each in asked]
    notes = [target.note] if target.note else []
    return ProbeResult(target.url, target.pid, file.size, tuple(found), tuple(notes))


def plan_for(target: Target, plan: Plan) -> Plan:
    """The plan, with few clients where the target is not this machine."""
    local = ipaddress.ip_address(target.address).is_loopback
    return plan if local else replace(plan, steps=FEW)


def _jobs(
    target: Target, budget: Budget, wish: Wish, file: Whole
) -> dict[str, Callable[[], Sequence[Row]]]:
    """What answers which questions; the memory first, before anything else moves it."""
    return {
        "growth backpressure leaving": lambda: _memory(target, budget, wish.plan, file),
        "framing": lambda: [judge.framing(file)],
        "ranges": lambda: [judge.ranges(ranges(target, budget, file))],
        "head": lambda: [judge.head(headed(target, budget, file), file)],
        "first-byte": lambda: [judge.first_byte(file)],
    }


def _memory(target: Target, budget: Budget, plan: Plan, file: Whole) -> list[Row]:
    if target.pid is None or not exact():
        why = NO_PID if exact() else "not measured: only Linux tells it"
        rows = [judge.answer(each, "open", why) for each in MEMORY]
        with suppress(AnswerError, OSError):
            rows[1] = judge.backpressure(stalled_client(target, budget), file.size)
        return rows
    found = measure(target, budget, plan, file.size)
    growth = judge.growth(found.growth, found.stalled, file.size)
    if found.growth.ended:
        why = "not measured: the process ended (see growth)"
        return [growth, *(judge.answer(each, "open", why) for each in MEMORY[1:])]
    return [
        growth,
        judge.backpressure(found.stalled, file.size),
        judge.leaving(found.left, found.growth.each),
    ]


def _large_enough(file: Whole, asked: Sequence[str], target: Target) -> None:
    """Raises `ProbeError` where the file is too small to tell anything."""
    size = size_text(file.size)
    if target.pid is not None and set(asked) & set(MEMORY):
        least = judge.least_size(connection_buffer(window=receive_buffer(30)))
        if file.size < least:
            mib = least // 2**20
            others = " ".join(f"--only {each}" for each in QUESTIONS if each not in MEMORY)
            raise ProbeError(
                f"the file has {size}, and the kernel alone takes so much for a client that does "
                f"not read: give one of {mib} MiB or more (`head -c {mib}M /dev/urandom > "
                f"big.bin`), or leave the questions of memory out: {others}"
            )
    elif file.size < judge.SMALLEST:
        raise ProbeError(
            f"the file has {size}, which is too small to tell anything: give one of "
            f"{size_text(judge.SMALLEST)} or more"
        )


def by_hand(row: Row, target: Target, file: Whole) -> str:
    """The command that repeats a question by hand."""
    url, pid = shlex.quote(target.url), target.pid or "PID"
    first = file.samples.middle
    fields = str(row.figures.get("request_fields") or f"Range: bytes={first}-{first + 999}")
    headers = " ".join(f"-H {shlex.quote(field)}" for field in fields.split("; "))
    one = f"curl -q -s --limit-rate 1K -o /dev/null {url}"
    many = f"for i in $(seq 30); do {one} & done; sleep 3"
    memory = f"ps -o pid,rss,args --pid {pid} --ppid {pid}"
    opened = f"for p in {pid} $(pgrep -P {pid}); do ls {PROC}/$p/fd; done | wc -l"
    times = "%{time_starttransfer} of %{time_total} s"
    commands = {
        "growth": f"{memory}; {many}; {memory}; kill $(jobs -p)",
        "backpressure": f"{one} & sleep 3; ss -tnm sport = :{target.port}; {memory}; kill $!",
        "leaving": f"{opened}; {many}; kill $(jobs -p); sleep 3; {opened}",
        "framing": f"curl -q -sv -o /dev/null -o /dev/null {url} {url}",
        "ranges": f"curl -q -s -D - {headers} {url} | head -c 1500 | cat -v",
        "head": f"curl -q -s -D - -o /dev/null {url}; curl -q -sI {url}",
        "first-byte": f"curl -q -s -o /dev/null -w '{times}\\n' {url}",
    }
    return commands[row.id]


def machine() -> str:
    """The kind of this machine, in a few words."""
    return f"{platform.system()} {platform.release()}, {platform.machine()}"
