"""What the figures say, in plain words: one row for each question. Sizes are in bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from streamlab.files import KiB, MiB, size_text
from streamlab.lesson.verdicts import Verdict
from streamlab.probe.load import SHARE, Growth, Left, Stalled
from streamlab.probe.ranges import Ranges
from streamlab.probe.wire import Headed, Whole

Outcome = Literal["good", "bad", "open"]
"""`open`: nothing is wrong, and nothing is shown to be right: not measured, or not judged."""
Figures = dict[str, float | int | str | bool | None]

QUESTIONS = {
    "growth": "Growth with clients",
    "backpressure": "A client that stops reading",
    "leaving": "What clients leave behind",
    "framing": "Where an answer ends",
    "ranges": "Byte ranges",
    "head": "HEAD",
    "first-byte": "The first byte",
}
"""By their ids, in the order in which they are asked."""
MEMORY = ("growth", "backpressure", "leaving")
"""Those that need the process, and a file of some size."""

MUCH = 16 * MiB
"""So many bytes are much for one client, whatever the size of the file."""
NO_PID = "not measured: it needs the server's process, --pid"


@dataclass(frozen=True)
class Row:
    """One question and what came of it."""

    id: str
    outcome: Outcome
    verdict: Verdict
    """Its text, and the figure beside it; shown by `streamlab.verdicts`, too."""
    figures: Figures = field(default_factory=dict)
    """Names end in their unit: `_bytes`, `_seconds`; the others are counts, ratios or words."""
    curl: str = ""
    """The command that repeats it by hand."""

    @property
    def question(self) -> str:
        """What was asked, in a few words."""
        return QUESTIONS[self.id]


def answer(id: str, outcome: Outcome, text: str, figure: str = "", **figures: object) -> Row:
    """A row; its law held unless it is bad."""
    return Row(id, outcome, Verdict(text, figure, outcome != "bad"), dict(figures))  # type: ignore[arg-type]


def growth(found: Growth, stalled: Stalled, size: int) -> Row:
    """Whether a client that waits costs a share of the file.

    A server that reads on after its first bytes has its fault in the row `backpressure`.
    """
    each, most = found.each, max(found.clients, default=0)
    figures: Figures = {
        "memory_per_client_bytes": round(each) if found.clients else None,
        "share_of_file_per_client": round(each / size, 4) if found.clients else None,
        "clients_without_first_byte": found.unserved,
    }
    for clients, grown in zip(found.clients, found.grown, strict=True):
        figures[f"memory_with_{clients}_clients_bytes"] = grown
    figure = f"{size_text(each)} a client" if found.clients else ""

    def row(outcome: Outcome, text: str) -> Row:
        return answer("growth", outcome, text, figure, **figures)

    if found.ended:
        return row("bad", found.problem)
    share = each / size
    if share >= 1 / SHARE:
        cost = f"each waiting client costs memory for {share:.2g} x the file"
        if _reads_on(stalled, size):
            return row("open", f"{cost}, because the server reads on (see below)")
        return row("bad", f"{cost}: the server holds what it sends")
    if each > MUCH:
        return row("bad", f"each waiting client costs much memory, {share:.1%} of the file")
    if found.unserved:
        why = f"{found.unserved} clients get no first byte while others wait ({found.problem})"
        return row("bad", why)
    told = "next to nothing" if share < 0.001 else f"{share:.1%} of its size"
    text = f"the server does not hold the file: each of {most} waiting clients costs {told}"
    return row("good", text)


def _reads_on(found: Stalled, size: int) -> bool:
    """Whether the server took more for a client that had stopped.

    Where it has all in memory, and had it before the first byte left, it did not.
    """
    bound = min(size / SHARE, MUCH)
    before = (found.at_first or 0) >= 0.9 * size and (found.held or 0) >= bound
    return _ahead(found) >= bound and not before


def _ahead(found: Stalled) -> int:
    """Bytes that the server has taken, and that have not gone out."""
    return max(0, max(found.taken or 0, found.held or 0) - found.out)


def backpressure(found: Stalled, size: int) -> Row:
    """Whether the server goes on reading for a client that has stopped.

    One that had the whole file before its first byte has its fault in the row `growth`.
    """
    kernel = "an unknown number of bytes" if found.in_kernel is None else size_text(found.in_kernel)
    figures: Figures = {
        "received_by_client_bytes": found.received,
        "in_kernel_bytes": found.in_kernel,
        "taken_at_first_byte_bytes": found.at_first,
        "taken_bytes": found.taken,
        "held_bytes": found.held,
    }
    figure = f"{kernel} in the kernel"

    def row(outcome: Outcome, text: str, shown: str = figure) -> Row:
        return answer("backpressure", outcome, text, shown, **figures)

    if found.held is None:
        return row("open", f"seen from outside alone: {kernel} went out into the kernel")
    ahead = figures["ahead_bytes"] = _ahead(found)
    shown = f"{size_text(ahead)} ahead, {figure}"
    if ahead < min(size / SHARE, MUCH):
        return row("good", "the server stops too, once the kernel takes no more", shown)
    if not _reads_on(found, size):
        told = "not judged: the server has the whole file before it sends (see above)"
        return row("open", told, shown)
    into = "memory" if found.held >= ahead / 2 else "somewhere else than memory"
    return row("bad", f"the server reads on, into {into}: {ahead / size:.0%} of the file", shown)


def leaving(found: Left, each: float) -> Row:
    """Whether each wave of clients leaves more behind than the one before it.

    So what a server keeps once, such as a pool of threads, does not count. `each` is what a client
    costs while it waits.
    """
    if len(found.counts) < 3:
        return answer("leaving", "open", "not measured: not all clients got a first byte")
    figures: Figures = {
        "clients_that_left": (len(found.counts) - 1) * found.clients,
        "memory_added_bytes": found.more_memory,
        "descriptors_added": found.more("descriptors"),
        "threads_added": found.more("threads"),
        "processes_added": found.more("children"),
        "memory_before_bytes": found.memory[0],
        "memory_after_bytes": found.memory[-1],
        "descriptors_before": found.counts[0].descriptors,
        "descriptors_after": found.counts[-1].descriptors,
        "threads_before": found.counts[0].threads,
        "threads_after": found.counts[-1].threads,
    }
    who = f"{found.clients} clients that leave in the middle"
    first, last = found.counts[0], found.counts[-1]
    figure = (
        f"from {first.descriptors} to {last.descriptors} descriptors, from {first.threads} to "
        f"{last.threads} threads"
    )
    if left := found.found(each):
        text = f"{who} leave {' and '.join(left)} behind, and as many again do so again"
        return answer("leaving", "bad", text, figure, **figures)
    pools = any(
        getattr(last, what) > getattr(first, what) + 3
        for what in ("descriptors", "threads", "children")
    )
    text = f"{who} leave nothing behind"
    if pools:
        text = f"{who} leave nothing more behind than {found.clients} before them"
    return answer("leaving", "good", text, figure, **figures)


def framing(found: Whole) -> Row:
    """Whether the end of an answer is where it is said to be."""
    figures: Figures = {
        "body_bytes": found.size,
        "content_length_bytes": found.head.length,
        "end_told_by": found.how,
        "connection_stays_open": found.stays,
    }
    figure = f"{size_text(found.size)} came"
    if found.problem:
        return answer("framing", "bad", found.problem, figure, **figures)
    if found.how == "closing":
        text = "only the closed connection tells the end: a break looks the same"
        return answer("framing", "open", text, figure, **figures)
    right = "Content-Length is right" if found.how == "Content-Length" else "chunks are right"
    then = "a second request is in step" if found.stays else "it closes, as it says"
    return answer("framing", "good", f"{right}, and {then}", figure, **figures)


def ranges(found: Ranges) -> Row:
    """Whether ranges are right, where there are any."""
    figures: Figures = {each.name.replace(" ", "_").lower(): each.what for each in found.asked}
    served, wrong = found.named("served"), [each for each in found.asked if each.what == "wrong"]
    figures["request_fields"] = "; ".join([*wrong, *found.asked][0].fields) if found.asked else ""
    figure = f"{len(served)} of {len(found.asked)} served"
    if wrong:
        text = "; ".join(f"{each.name}: {each.why}" for each in wrong)
        return answer("ranges", "bad", text, figure, **figures)
    if not served:
        text = "Range is ignored, which is allowed: a download that breaks begins anew"
        return answer("ranges", "open", text, figure, **figures)
    others = [
        f"{each.what}: {each.name}" for each in found.asked if each.what in ("ignored", "refused")
    ]
    text = f"right: {', '.join(served)}" + "".join(f"; {each}" for each in others)
    return answer("ranges", "good", text, figure, **figures)


def head(found: Headed, like: Whole) -> Row:
    """Whether HEAD is GET without the body."""
    figures: Figures = {
        "status": found.status,
        "body_came": found.body,
        "differences": "; ".join(found.differences),
    }
    figure = f"status {found.status}" if found.status else ""

    def row(outcome: Outcome, text: str) -> Row:
        return answer("head", outcome, text, figure, **figures)

    if found.problem:
        return row("bad", f"no answer to HEAD: {found.problem}")
    if found.status != like.head.status:
        return row("bad", f"HEAD is answered with {found.status}, and GET with {like.head.status}")
    if found.body:
        return row("bad", "a body follows: a client takes it for the next answer")
    if found.differences:
        return row("bad", f"other headers than for GET: {'; '.join(found.differences)}")
    return row("good", "the headers of GET, and no body")


def first_byte(found: Whole) -> Row:
    """The time to the first byte as a share of the whole, which no bound judges."""
    if found.first_byte is None or not found.seconds:
        return answer("first-byte", "open", "no byte of a body came")
    share = found.first_byte / found.seconds
    figures: Figures = {
        "first_byte_seconds": round(found.first_byte, 6),
        "whole_seconds": round(found.seconds, 6),
        "first_byte_share": round(share, 4),
    }
    text = f"it came after {share:.0%} of the time of the whole download: not judged"
    figure = f"{1000 * found.first_byte:.1f} of {1000 * found.seconds:.0f} ms"
    return answer("first-byte", "open", text, figure, **figures)


def least_size(kernel: int) -> int:
    """The smallest file that tells something, in bytes.

    The kernel takes `kernel` bytes for a client that does not read. A share of a file can be told
    from a constant where the file has some times more.
    """
    return max(16 * MiB, -(-4 * kernel // MiB) * MiB)


SMALLEST = 64 * KiB
"""Bytes that a file should have for the questions that need no process."""
