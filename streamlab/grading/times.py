"""When work was handed in, and what being late costs.

A time that says no zone is taken to be in this machine's zone, and whoever reads it is told so.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path

from streamlab.grading.names import letters
from streamlab.grading.records import Lateness, Student
from streamlab.grading.task import GradingError
from streamlab.grading.text import number, one_line, read_csv_text

FILE_TIME = "the file's time"
ARCHIVE_TIME = "the file's time in its archive"
"""Sources that the student can set: they count only where nothing else says it."""

_HOURS = {
    **{"UTC": 0, "GMT": 0, "Z": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5},
    **{"MST": -7, "MDT": -6, "PST": -8, "PDT": -7},
    **{"WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3},
}
"""Zones by their letters, in hours from UTC: those of RFC 5322, section 4.3, and Europe's."""

_FORMS = (
    "%d %B %Y %I:%M %p",  # Moodle: Wednesday, 10 June 2026, 2:14 PM
    "%d %B %Y %H:%M",
    "%d %B %Y %I:%M:%S %p",
    "%d %B %Y %H:%M:%S",  # Blackboard: Monday, 5 October 2026 09:31:04 o'clock BST
    "%B %d %Y %I:%M %p",  # Moodle in the USA: Wednesday, September 23, 2020, 9:00 PM
    "%B %d %Y %H:%M",
    "%B %d %Y %I:%M:%S %p",  # Blackboard: Monday, October 5, 2026 9:31:04 AM EDT
    "%B %d %Y %H:%M:%S",
)
_DAY = re.compile(r"(?:mon|tues|wednes|thurs|fri|satur|sun)day\b,?\s*", re.IGNORECASE)
_ZONE = re.compile(r"\s*(?:o'clock)?\s+(?!AM$|PM$)(?P<zone>[A-Z]{1,5})$")
_BLACKBOARD = re.compile(r"\d{4}(?:-\d\d){5}")
_OLDEST, _NEWEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""What is outside of them is no time at which work was handed in."""


@dataclass(frozen=True)
class HandedIn:
    """When a piece of work was handed in, as far as that is known."""

    at: datetime | None = None
    """With its zone; None where nothing says it."""
    source: str = ""
    """What says it."""
    said_late: str = ""
    """The platform that says it is late, and does not say when it came."""

    @property
    def is_sure(self) -> bool:
        """Whether a platform said when; a file's time can be set by anybody."""
        return self.at is not None and self.source not in (FILE_TIME, ARCHIVE_TIME)


UNKNOWN = HandedIn()
"""Nothing says when."""


def read_time(text: str) -> datetime:
    """The time that a text says, with a zone: this machine's, where it names none.

    It reads ISO 8601, also with a space for the `T` and `UTC` or another zone's letters behind it
    (GitHub Classroom, Gradescope, nbgrader), what Moodle writes into its grading worksheet, in
    English, and Blackboard's file names and texts. Raises `ValueError` for anything else: a date
    such as 03/04/2026 has two meanings, and a day without an hour is no time. Parts of a second are
    left out.
    """
    text = " ".join(text.split())
    if not text or len(text) > 100:
        raise ValueError("it is no time")
    if _BLACKBOARD.fullmatch(text):
        return _here(datetime.strptime(text, "%Y-%m-%d-%H-%M-%S"))
    if not re.search(r"\d[T ]|:", text):
        raise ValueError("it has no hour")
    text = re.sub(r" (?=[+-]\d\d:?\d\d$)", "", text)
    zone = ""
    if found := _ZONE.search(text):
        zone, text = found["zone"], text[: found.start()]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = _written_out(text)
    moment = moment.replace(microsecond=0)
    if zone and moment.tzinfo is None:
        return moment.replace(tzinfo=_zone_of(zone, moment))
    return _here(moment)


def _written_out(text: str) -> datetime:
    bare = " ".join(_DAY.sub("", text, count=1).replace(",", " ").split())
    for form in _FORMS:
        try:
            return datetime.strptime(bare, form)
        except ValueError:
            continue
    raise ValueError("write it like 2026-11-20T23:59, with +01:00 behind it for a zone")


def _zone_of(name: str, moment: datetime) -> tzinfo:
    """The zone that letters name; this machine's, where it calls itself so at that moment."""
    here = _here(moment)
    if here.tzname() == name and here.tzinfo is not None:
        return here.tzinfo
    if name not in _HOURS:
        raise ValueError(f"the zone {name} is not known here: write it like +01:00")
    return timezone(timedelta(hours=_HOURS[name]), name)


def _here(moment: datetime) -> datetime:
    try:
        return moment.astimezone() if moment.tzinfo is None else moment
    except (OverflowError, OSError) as error:  # a year that no clock has
        raise ValueError("it is no time") from error


def file_time(moment: datetime | float | None) -> datetime | None:
    """The time that a file or an archive gives; None for one that nobody can have meant.

    Archives made to be equal have 1980 in them. A number is in seconds since 1970.
    """
    try:
        found = (
            datetime.fromtimestamp(int(moment), UTC).astimezone()
            if isinstance(moment, int | float)
            else moment and _here(moment)
        )
    except (OverflowError, OSError, ValueError):
        return None
    return found if found and _OLDEST < found < _NEWEST else None


def shown(moment: datetime) -> str:
    """A time as a gradebook shows it: `2026-11-20 23:59:00 +01:00`."""
    text = moment.isoformat(" ", "seconds")
    at = max(text.rfind("+"), text.rfind("-", 11))
    return f"{text[:at]} {text[at:]}" if at > 0 else text


# What being late costs


@dataclass(frozen=True)
class Deadline:
    """When work was due, and what is taken off for each day that has begun since then."""

    due: datetime
    """As it stands on the wall in `zone`."""
    zone: tzinfo | None = None
    """None: this machine's, with its summer time."""
    penalty: float = 0
    """Percent of the points that a program got, for each day that has begun."""
    grace: float = 0
    """In minutes: what comes within them is not late."""
    most: float = 100
    """The most that is taken off, in percent."""

    def after(self, days: int) -> datetime:
        """The end of a day of being late, by the clock on the wall: of day 0, the deadline."""
        moment = self.due + timedelta(days=days)
        return _here(moment) if self.zone is None else moment.replace(tzinfo=self.zone)

    @property
    def shown(self) -> str:
        """The deadline for a gradebook, with the zone, and whose zone it is."""
        moment = self.after(0)
        own = f" (this machine's zone, {moment.tzname()})" if self.zone is None else ""
        return f"{shown(moment)}{own}"

    @property
    def rule(self) -> str:
        """What is taken off, in words."""
        if not self.penalty:
            return "nothing is taken off"
        parts = [f"{number(self.penalty)} % of the points for each day that has begun"]
        if self.most < 100:
            parts.append(f"at most {number(self.most)} %")
        if self.grace:
            parts.append(f"the first {number(self.grace)} minutes are free")
        return ", ".join(parts)

    def days(self, at: datetime) -> int:
        """How many days late a time is: each one counts that has begun."""
        if at <= self.after(0) + timedelta(minutes=self.grace):
            return 0
        days = max(1, math.floor((at - self.after(0)) / timedelta(days=1)) - 1)
        while self.after(days) < at:
            days += 1
        return days

    def lateness(self, handed_in: HandedIn, points: float) -> Lateness:
        """What becomes of points: 1.25 and the like are rounded to a hundredth."""
        at, source = handed_in.at, handed_in.source
        days = None if at is None else self.days(at)
        if handed_in.said_late and at is not None and at <= self.after(0):
            days = None  # the file is older than what was handed in, or says so
        why = ""
        if days is None and handed_in.said_late:
            why = f"{handed_in.said_late} says that it is late, and not when it came"
        elif days is None:
            why = "nothing says when it was handed in"
        share = min(self.most, self.penalty * (days or 0), 100) / 100
        return Lateness(
            due=self.shown,
            rule=self.rule,
            handed_in="" if at is None else shown(at),
            handed_in_from=source,
            days=days,
            penalty=round(points * share, 2),
            points_before=points,
            unknown=why,
        )


def deadline(due: str, penalty: float = 0, grace: float = 0, most: float = 100) -> Deadline:
    """The deadline that a text says, such as `2026-11-20T23:59`, or with `+01:00` behind it.

    A date alone is its end; a minute without seconds counts to its end. `penalty` and `most` are
    percents, `grace` is in minutes. Raises `GradingError` where one of them makes no sense.
    """
    text = due.strip()
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            text = f"{text}T23:59"
        moment = datetime.fromisoformat(text)
        _here(moment)
    except ValueError as error:
        raise GradingError(
            f"--due {due}: write it like 2026-11-20T23:59, or 2026-11-20T23:59+01:00"
        ) from error
    if not re.search(r"\d\d:?\d\d:?\d\d", text[10:].partition("+")[0].partition("-")[0]):
        moment = moment.replace(second=59, microsecond=999_999)
    for name, value, top in (
        ("--late-penalty", penalty, 100),
        ("--late-most", most, 100),
        ("--grace", grace, math.inf),
    ):
        if not (0 <= value <= top and math.isfinite(value)):
            upto = "100" if top == 100 else "as many minutes as you like"
            raise GradingError(f"{name} {number(value)}: it is a number from 0 to {upto}")
    return Deadline(moment.replace(tzinfo=None), moment.tzinfo, penalty, grace, most)


# What an instructor says of it

_HEADINGS = (
    *("handedin", "submittedat", "submissiontimestamp", "submissiontime"),
    "lastmodifiedsubmission",
)
"""Headings below which a table has the time: of your own, GitHub Classroom, Gradescope, Moodle."""


def times_of_roster(students: Iterable[Student], path: Path) -> dict[str, HandedIn]:
    """When the students of a roster handed in, as its own columns say it, by id.

    The headings are `handed_in`, or those of a platform: `Last modified (submission)` in Moodle's
    grading worksheet, `Submission Time` in Gradescope's grades, `submission_timestamp` in GitHub
    Classroom's. Raises `GradingError` for a time that can't be read.
    """
    found = {}
    for student in students:
        cells = {letters(heading): text for heading, text in student.columns.items()}
        for heading in _HEADINGS:
            text = cells.get(heading, "").strip()
            if text and text != "-":
                try:
                    found[student.student] = HandedIn(read_time(text), "the roster")
                except ValueError as error:
                    said = f"{path}, {student.student}: {one_line(text)[:60]!r}"
                    raise GradingError(f"{said} is no time: {error}") from error
                break
    return found


def times_of_table(path: Path, roster: Sequence[Student]) -> dict[str, HandedIn]:
    """When students handed in, by id, as a CSV file with the headings student and handed_in says.

    Raises `GradingError` with the line where it says something else.
    """
    try:
        source = read_csv_text(path)
        lines = csv.reader(io.StringIO(source.text, newline=""), delimiter=source.delimiter)
        rows = [(lines.line_num, row) for row in lines if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GradingError(f"the times can't be read: {error}") from error
    headings = [letters(heading) for heading in rows[0][1]] if rows else []
    if not {"student", "handedin"} <= set(headings):
        raise GradingError(f"{path} needs the headings student and handed_in in its first line")
    known = {each.student for each in roster}
    found: dict[str, HandedIn] = {}
    for line, row in rows[1:]:
        cells = dict(zip(headings, map(str.strip, row), strict=False))
        who, text = cells.get("student", ""), cells.get("handedin", "")
        if who not in known:
            raise GradingError(f"{path}, line {line}: {who or 'nobody'} is no id of the roster")
        if who in found:
            raise GradingError(f"{path}, line {line}: {who} stands in it twice")
        try:
            found[who] = HandedIn(read_time(text), path.name)
        except ValueError as error:
            raise GradingError(
                f"{path}, line {line}: {one_line(text)[:60]!r} is no time: {error}"
            ) from error
    return found
