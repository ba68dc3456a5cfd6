"""How a check ends: `fail` with a cause, `note` beside the results, `promise` around a probe.

`waiting` says what it waits for meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn


class CheckFailed(Exception):
    """The program does not do what the check asks for."""

    def __init__(self, cause: str, evidence: str, curl: str = "", promise: str = "") -> None:
        super().__init__(evidence)
        self.cause = cause
        self.evidence = evidence
        self.curl = curl
        self.promise = promise


class CouldNotRun(Exception):
    """The program did not start, or is no program at all.

    `late` says that nothing but a lack of time may have caused that. `cause` is a name of the
    labs' common causes.
    """

    def __init__(self, message: str, late: bool = False, cause: str = "could_not_run") -> None:
        super().__init__(message)
        self.late = late
        self.cause = cause


def fail(cause: str, evidence: str, curl: str = "") -> NoReturn:
    """End a check: `cause` is a name in lab.toml, `evidence` plain text."""
    raise CheckFailed(cause, evidence, curl)


@contextmanager
def promise(name: str, **others: str) -> Iterator[None]:
    """Put one promise of the lab's text to the test: a failure inside says that it was broken.

    `name` is the promise's id in the lab's contract.toml. Of nested promises the inner one counts.
    A shared check may ask for two things at once: `others` are the promises that are broken, in
    place of `name`, by failures of these causes: `promise("reading-stops", busy_loop="rests")`.
    """
    for each in (name, *others.values()):
        if each not in PROBED:
            PROBED.append(each)
    _tell(name, "")
    try:
        yield
    except CheckFailed as failure:
        # The failure carries its promise, so checks may run in several threads at once.
        failure.promise = failure.promise or others.get(failure.cause, name)
        raise


PROBED: list[str] = []
"""All that this check has put to the test so far."""

LISTENERS: list[Callable[[str, str], None]] = []
"""Told what a check does: the promise that it puts to the test, and what it waits for."""


def _tell(promise_id: str, waits: str) -> None:
    for each in LISTENERS:
        each(promise_id, waits)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say what the check waits for, while it does: `with waiting("until the server rests"):`."""
    probed = PROBED[-1] if PROBED else ""
    _tell(probed, what)
    try:
        yield
    finally:
        _tell(probed, "")


NOTES: list[str] = []


def note(text: str) -> None:
    """Tell something about a check that passes, in a sentence: a part of it that was left out."""
    NOTES.append(text)
