"""What a class handed in: whose each file is, and which program is in it.

Nothing of a submission is unpacked or run here, and no symbolic link is followed: single files are
read, up to a size, out of folders and archives, whatever they are called.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from streamlab.errors import StreamlabError
from streamlab.files import reason_of
from streamlab.grading.collected import ANYBODY, COLLECTED, Row, read_table, write_table
from streamlab.grading.contents import (
    SKIPPED,
    File,
    Search,
    Unreadable,
    files_of,
    guesses_copy,
    plain,
    read_program,
)
from streamlab.grading.mapping import ByHand
from streamlab.grading.metadata import GRADESCOPE, About, about
from streamlab.grading.owners import NOT_ON_ROSTER, Owner, Owners
from streamlab.grading.platforms import Label, label_of
from streamlab.grading.programs import choose, choose_guesses, reason_without
from streamlab.grading.records import Student
from streamlab.grading.task import GradingError
from streamlab.grading.text import file_name
from streamlab.grading.times import UNKNOWN, HandedIn, read_time, shown
from streamlab.labs.manifest import Lab
from streamlab.labs.shared_guesses import FILE as GUESSES
from streamlab.labs.shared_guesses import SharedGuesses, from_json

_DEEPEST = 3
"""How many folders may lie around what a platform handed out."""
_TABLES = (COLLECTED, GRADESCOPE)
"""Files beside submissions that say whose they are."""
_NO_SUBMISSION = (".csv", ".yml", ".yaml", ".ini", ".db", ".log")
"""Endings of files beside submissions that hold none: nobody is looked for."""


@dataclass(frozen=True)
class Submission:
    """What one student handed in for a lab."""

    programs: dict[str, bytes] = field(default_factory=dict)
    """By the name that the lab gives them."""
    notes: tuple[str, ...] = ()
    """What an instructor should know: a file taken under another name."""
    problem: str = ""
    """Why nothing of it can be graded; empty if it can."""
    handed_in: HandedIn = UNKNOWN
    """When, as the platform says; else when the newest of the programs was changed."""
    guesses: bytes = b""
    """What the student shares of the guesses, as a file that can be read; empty for none."""

    @property
    def sha256(self) -> str:
        """A hash of the programs, in hex; empty without any."""
        if not self.programs:
            return ""
        total = hashlib.sha256()
        for name, content in sorted(self.programs.items()):
            total.update(f"{name}\0{len(content)}\0".encode() + content)
        return total.hexdigest()


@dataclass(frozen=True)
class Collection:
    """A folder of submissions, sorted by the roster."""

    submissions: dict[str, Submission]
    """By the student's id; a student without any is missing in it. Whose work may be one that is
    in doubt has a submission with that problem."""
    rows: list[Row]
    """Who got which file, and why; those without any stand at the end."""

    @property
    def unmatched(self) -> list[str]:
        """What nobody got, each with the doubt."""
        return [f"{row.file}: {row.why}" for row in self.rows if row.state == "in doubt"]

    @property
    def shared(self) -> list[SharedGuesses]:
        """The guesses that students share, each file without a name."""
        return [from_json(each.guesses) for each in self.submissions.values() if each.guesses]

    @property
    def strangers(self) -> list[str]:
        """Those of `unmatched` that are called like nobody on the roster, nor much like anybody."""
        return [
            f"{row.file}: {row.why}"
            for row in self.rows
            if row.state == "in doubt"
            and row.why.startswith(NOT_ON_ROSTER)
            and row.may_be == ANYBODY
        ]


@dataclass(frozen=True)
class _Entry:
    """A file or folder among the submissions, and whose it is."""

    path: Path
    owner: Owner
    label: Label | None
    left_out: str = ""
    """Why it is passed over, if it is."""
    handed_in: HandedIn = UNKNOWN
    """When, as the platform says it."""

    @property
    def shown(self) -> str:
        return plain(self.path.name)


def collect(
    folder: Path, lab: Lab | None, roster: Sequence[Student], mapping: Path | None = None
) -> Collection:
    """Find what each student of the roster handed in for a lab.

    The folder holds what a learning platform handed out, unpacked once, or a folder, archive or
    program for each student, called by the student's id or name. `mapping` is a CSV file with the
    columns `file` and `student` that says whose something is; `-` is nobody. What is in doubt is
    nobody's. Without a lab no program is looked for. Raises `GradingError` if the folder or the
    mapping can't be read.
    """
    by_hand = ByHand(mapping, roster)
    named = folder
    folder, paths = _entries(folder, roster, by_hand)
    names = [path.name for path in paths]
    by_hand.check(names)
    submitted = [path.name for path in paths if not _is_beside(path)]
    known = about(folder, names)
    owners = Owners(roster, submitted, known.people)
    entries = [
        replace(_entry(path, owners, by_hand), handed_in=_said(path.name, known))
        for path in paths
        if path.name not in _TABLES
    ]
    entries = _newest_attempts(_one_number_each(entries))
    whose: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        for student in entry.owner.students if not entry.left_out else ():
            whose[student.student].append(entry)
    found = {who: _submission(its, lab) for who, its in whose.items()}
    submissions = {who: submission for who, (submission, _) in found.items()}
    rows = [row for entry in entries for row in _rows_of(entry, found)]
    earlier = read_table(folder / COLLECTED)
    rows += [row for row in earlier if row.state in ("in doubt", "left out")]
    _remember(earlier, submissions, rows, roster)
    if folder == named:  # a folder within it may be a submission, with a table of its own
        _remember_times(earlier, submissions)
    _doubts(rows, submissions)
    rows += [
        Row("nothing", "", each.student, each.name, why="nothing was found")
        for each in roster
        if each.student not in submissions
    ]
    return Collection(submissions, rows)


# What lies in the folder


def _entries(folder: Path, roster: Sequence[Student], by_hand: ByHand) -> tuple[Path, list[Path]]:
    """What lies in the folder, or in the only folder in it that a platform made around it."""
    top = folder
    paths = first = _listed(folder)
    for _ in range(_DEEPEST):
        owners = Owners(roster, [path.name for path in paths if not _is_beside(path)])
        if any(_is_known(path.name, owners, by_hand) for path in paths):
            return folder, paths
        if len(paths) != 1 or paths[0].is_symlink() or not paths[0].is_dir():
            break
        folder = paths[0]
        paths = _listed(folder)
    return top, first


def _is_known(name: str, owners: Owners, by_hand: ByHand) -> bool:
    """Whether a name is one that a platform gives, or somebody's."""
    return (
        name in _TABLES
        or label_of(name) is not None
        or by_hand.of(name) is not None
        or bool(owners.of(name).students)
    )


def _is_beside(path: Path) -> bool:
    """Whether a file is no submission, but lies beside some."""
    return path.suffix.casefold() in _NO_SUBMISSION and label_of(path.name) is None


def _listed(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except NotADirectoryError as error:
        raise GradingError(f"{folder} is a file: unpack it, and name the folder") from error
    except OSError as error:
        raise GradingError(f"the submissions can't be read: {error}") from error
    return [folder / name for name in names if not name.startswith(".") and name not in SKIPPED]


def _entry(path: Path, owners: Owners, by_hand: ByHand) -> _Entry:
    label = label_of(path.name)
    said = by_hand.of(path.name)
    if said is not None:
        if not said:
            return _Entry(path, Owner(), label, "the mapping says that it is nobody's")
        return _Entry(path, Owner(said, "the mapping"), label)
    owner = owners.of(path.name)
    if not owner.students and _guesses_name(path.name, label):
        return _Entry(path, Owner(), label, "guesses, and it is open whose")
    beside = not owner.students and _is_beside(path)
    return _Entry(path, owner, label, "it is no submission" if beside else "")


def _guesses_name(name: str, label: Label | None) -> str:
    """What a file of guesses is called without what stands in front; empty for any other file."""
    name = label.file if label is not None else name
    last = re.sub(r".*[\W_](?=guesses)", "", name, flags=re.IGNORECASE | re.DOTALL)
    return last if guesses_copy(last) is not None else ""


def _one_number_each(entries: Sequence[_Entry]) -> list[_Entry]:
    """Doubt names that a platform has two numbers for: those are two people, and one is unknown."""
    numbers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for entry in entries:
        if entry.owner.by_name and entry.label is not None and entry.label.number:
            key = (entry.label.platform, entry.owner.students[0].student)
            numbers[key].add(entry.label.number)
    settled = []
    for entry in entries:
        if entry.owner.by_name and entry.label is not None:
            key = (entry.label.platform, entry.owner.students[0].student)
            if len(numbers[key]) > 1:
                them = " and ".join(sorted(numbers[key]))
                why = f"{key[0]} has two of this name, by the numbers {them}; the roster has one"
                entry = replace(entry, owner=Owner(why=why, may_be=entry.owner.students))
        settled.append(entry)
    return settled


def _newest_attempts(entries: Sequence[_Entry]) -> list[_Entry]:
    """Pass over earlier attempts, where a platform says when each was handed in."""
    newest: dict[str, str] = {}
    for entry in entries:
        if entry.label is not None and entry.label.moment:
            for student in entry.owner.students:
                moment = max(entry.label.moment, newest.get(student.student, ""))
                newest[student.student] = moment
    return [
        replace(entry, left_out="an earlier attempt")
        if entry.label is not None
        and entry.label.moment
        and entry.owner.students
        and all(newest[each.student] > entry.label.moment for each in entry.owner.students)
        else entry
        for entry in entries
    ]


def _said(name: str, known: About) -> HandedIn:
    """When something was handed in, as its platform says in a file of its own or in its name."""
    label = label_of(name)
    if label is None:
        return UNKNOWN
    begins = name.partition(label.moment)[0] + label.moment if label.moment else name
    if begins in known.times:
        return known.times[begins]
    if label.moment:
        try:
            at = read_time(label.moment.replace("_", " "))
            return HandedIn(at, f"{label.platform}: its name")
        except ValueError:
            return UNKNOWN
    return HandedIn(said_late=label.platform if label.late else "")


# What is in it


@dataclass(frozen=True)
class _Taken:
    """A file that was taken for a program."""

    program: str
    file: str


def _submission(entries: Sequence[_Entry], lab: Lab | None) -> tuple[Submission, list[_Taken]]:
    search = Search()
    files: list[File] = []
    taken: list[_Taken] = []
    programs: dict[str, bytes] = {}
    said = [entry.handed_in for entry in entries]
    try:
        for entry in entries:
            if entry.label is not None and entry.label.about:
                search.others.append(f"{entry.label.platform}'s own text on it")
                continue
            name = entry.label.file if entry.label is not None else ""
            name = _guesses_name(entry.path.name, entry.label) or name
            files += files_of(entry.path, name, search)
        for name in lab.programs if lab is not None else ():
            assert lab is not None
            chosen = choose(name, files, lab, search.notes)
            if chosen is not None:
                programs[name] = read_program(chosen)
                taken.append(_Taken(name, chosen.shown))
                said.append(chosen.changed)
    except Unreadable as error:
        return Submission(notes=tuple(search.notes), problem=str(error)), []
    if lab is None:
        return Submission(notes=tuple(search.notes)), []
    if not programs:
        why = reason_without(lab, files, search)
        return Submission({}, tuple(search.notes), why, _newest(said)), []
    search.notes += [f"{name} is missing" for name in lab.programs if name not in programs]
    shared = choose_guesses(files, lab, search.notes)
    if shared is not None:
        taken.append(_Taken(GUESSES, shared[0].shown))
    guesses = shared[1] if shared is not None else b""
    return Submission(programs, tuple(search.notes), "", _newest(said), guesses), taken


def _newest(times: Sequence[HandedIn]) -> HandedIn:
    """The last time that a platform says; without any, the last of the files' own."""
    sure = [each for each in times if each.is_sure]
    with_time = [(each.at, each) for each in sure or times if each.at is not None]
    found = max(with_time, key=lambda each: each[0])[1] if with_time else UNKNOWN
    late = "" if sure else next((each.said_late for each in times if each.said_late), "")
    return replace(found, said_late=late)


def _rows_of(entry: _Entry, found: dict[str, tuple[Submission, list[_Taken]]]) -> Iterable[Row]:
    """The lines of the table on an entry: one for each student who got it."""
    if entry.left_out:
        for student in entry.owner.students or (Student(""),):
            yield Row("left out", entry.shown, student.student, student.name, why=entry.left_out)
        return
    if not entry.owner.students:
        may_be = [each.student for each in entry.owner.may_be]
        may_be += [ANYBODY] if entry.owner.or_anybody else []
        yield Row("in doubt", entry.shown, why=entry.owner.why, may_be="\n".join(may_be))
    for student in entry.owner.students:
        submission, taken = found[student.student]
        here = [each for each in taken if _is_in(each.file, entry.path.name)]
        program = ", ".join(map(_taken_text, here))
        yield Row(
            "no program" if submission.problem else "taken",
            entry.shown,
            student.student,
            student.name,
            program,
            submission.problem or entry.owner.why,
            "; ".join(submission.notes),
            handed_in=shown(submission.handed_in.at) if submission.handed_in.at else "",
            handed_in_from=submission.handed_in.source,
            said_late=submission.handed_in.said_late,
        )


def _taken_text(taken: _Taken) -> str:
    same = taken.file.rpartition("/")[2] == taken.program
    return plain(taken.file) if same else f"{plain(taken.file)} for {taken.program}"


def _is_in(file: str, entry: str) -> bool:
    return file == entry or file.startswith(f"{entry}/")


# What is open


def _remember(
    earlier: Sequence[Row],
    submissions: dict[str, Submission],
    rows: list[Row],
    roster: Sequence[Student],
) -> None:
    """Bring in what an earlier collection says of a folder that it laid."""
    here = {each.student for each in roster}
    for row in earlier:
        if row.student not in here:
            continue
        known = submissions.get(row.student)
        if row.state == "no program" and known is None:
            submissions[row.student] = Submission(problem=row.why)
            rows.append(row)
        elif row.state == "taken" and row.notes and known is not None:
            notes = tuple(dict.fromkeys((*known.notes, *row.notes.split("; "))))
            submissions[row.student] = replace(known, notes=notes)


def _remember_times(earlier: Sequence[Row], submissions: dict[str, Submission]) -> None:
    """Bring in when work was handed in that an earlier collection laid out: copies are new."""
    said: dict[str, list[HandedIn]] = defaultdict(list)
    for row in earlier:
        if row.state in ("taken", "no program"):
            try:
                at = read_time(row.handed_in) if row.handed_in else None
            except ValueError as error:
                raise GradingError(
                    f"{COLLECTED}, {row.student}: {row.handed_in!r} is no time: {error}"
                ) from error
            said[row.student].append(HandedIn(at, row.handed_in_from, row.said_late))
    for who, times in said.items():
        if who in submissions:
            submissions[who] = replace(submissions[who], handed_in=_newest(times))


def _doubts(rows: Sequence[Row], submissions: dict[str, Submission]) -> None:
    """Tell students' submissions of what may be theirs, so that nobody of them is a zero."""
    for row in rows:
        may_be = set(row.may_be.split("\n")) - {"", ANYBODY} if row.state == "in doubt" else set()
        for who in sorted(may_be):
            # A student reads this, so that it names nobody else.
            said = f"{row.file} may be theirs, and was not taken: it is open whose it is"
            known = submissions.get(who)
            if known is None or (known.problem and not known.programs):
                problem = f"{known.problem}; {said}" if known is not None else said
                submissions[who] = Submission(problem=problem)
            else:
                submissions[who] = replace(known, notes=(*known.notes, said))


# The class's folder


def lay_out(collection: Collection, lab: Lab, folder: Path) -> int:
    """Lay the programs of a class into a folder of their own; returns of how many students.

    Each lies in `STUDENT/LAB/`, the student's folder named by `file_name`. `collected.csv` beside
    them has the table: who got which file and why, and what is in doubt, which grading reads, too.
    Raises `GradingError` if the folder is not empty or can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise GradingError(f"{folder} is not empty: name a new folder with --out")
        count = 0
        for who, submission in collection.submissions.items():
            if submission.programs:
                place = folder / file_name(who) / lab.name
                place.mkdir(parents=True)
                for name, content in submission.programs.items():
                    (place / name).write_bytes(content)
                if submission.guesses:
                    (place / GUESSES).write_bytes(submission.guesses)
                count += 1
    except StreamlabError:
        raise
    except OSError as error:
        raise GradingError(f"{folder} can't be written: {reason_of(error)}") from error
    write_table(collection.rows, folder / COLLECTED)
    return count
