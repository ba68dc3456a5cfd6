"""Whose a file or folder is: by the rules of the platform that named it, or by an id or a name.

What a rule leaves open is a doubt. It is told, with the students whose it may be, and nobody gets
it: a person says whose it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from streamlab.grading.names import Names, letters, plain_letters, words_of
from streamlab.grading.platforms import Label, label_of, without_ending
from streamlab.grading.records import Student
from streamlab.grading.roster import CANVAS_HEADINGS
from streamlab.grading.text import file_name

NOT_ON_ROSTER = "nobody on the roster"
"""So a doubt begins where a name is nobody's."""

_ID_HEADINGS = {
    *("username", "login", "loginid", "userid", "netid", "studentid", "sid"),
    *("studentnumber", "matrikelnummer", "idnumber", "idnummer", "sisloginid", "sisuserid"),
    *("githubusername", "identifier", "rosteridentifier", "studentrepositoryname"),
    *("emailaddress", "email", "mail", "emailadresse"),
}
"""The headings of a roster whose texts name a student, by their letters."""


_COURSE = {
    *("lab", "labs", "hw", "homework", "ex", "exercise", "assignment", "task", "week", "chapter"),
    *(
        "submission",
        "solution",
        "project",
        "program",
        "code",
        "work",
        "files",
        "folder",
        "of",
        "my",
        "guesses",
    ),
    *("final", "new", "fixed", "late", "version", "v", "copy", "try", "attempt", "py", "python"),
    *("server", "client", "app", "predict", "leaky", "chunked", "loop", "join", "trap", "load"),
    *("all", "bug", "headers", "and", "framing", "hybrid", "under", "frameworks", "ranges"),
    *("streaming", "proxy"),
}
"""Words that say what was handed in, and are no part of a name."""


@dataclass(frozen=True)
class Person:
    """Somebody whom a platform names in a file of its own, as whoever handed something in."""

    name: str = ""
    ids: tuple[str, ...] = ()
    """The surest first."""


@dataclass(frozen=True)
class Owner:
    """Whose something is, and on what grounds."""

    students: tuple[Student, ...] = ()
    """Nobody where it is in doubt; several where a group handed it in together."""
    why: str = ""
    """The grounds, or the doubt."""
    may_be: tuple[Student, ...] = ()
    """In doubt: whose it may be, as far as that can be told."""
    or_anybody: bool = False
    """In doubt: whether it may be somebody else's of the roster, too."""
    by_name: bool = False
    """A name alone told it."""


class Owners:
    """The rules, for the class of a roster and a folder of submissions.

    `entries` are the names of all that lies in the folder. `people` has whom a platform's own files
    name, by the beginning of what they handed in (see `metadata`).
    """

    def __init__(
        self,
        roster: Sequence[Student],
        entries: Sequence[str] = (),
        people: Mapping[str, Sequence[Person]] | None = None,
    ) -> None:
        self.roster = roster
        self.people = people or {}
        self.names = Names(roster)
        self._exact = {student.student: student for student in roster}
        self._ids: dict[str, dict[str, Student]] = defaultdict(dict)
        self._numbers: dict[str, Student] = {}
        self._logins: dict[str, Student] = {}
        for student in roster:
            self._learn(student)
        stems = [without_ending(each) for each in entries]
        self._all_ids = bool(stems) and all(self.by_id(each) for each in stems)
        prefixes = Counter(prefix for each in stems for prefix, _ in self._repositories(each))
        ((common, times),) = prefixes.most_common(1) or [("", 0)]
        self._prefix = common if times > 1 else ""

    def _learn(self, student: Student) -> None:
        for text in _ids_of(student):
            self._ids[_compared(text)][student.student] = student
        by_key = {letters(heading): text for heading, text in student.columns.items()}
        if set(by_key) >= CANVAS_HEADINGS and ("student" in by_key or "lastname" in by_key):
            self._numbers[f"Canvas {by_key['id']}"] = student
        participant = re.fullmatch(r"\D*(\d+)", by_key.get("identifier", ""))
        if participant and "fullname" in by_key:
            self._numbers[f"Moodle {participant[1]}"] = student
        for key in ("githubusername", "studentrepositoryname"):
            if by_key.get(key):
                self._logins[_compared(by_key[key])] = student

    def by_id(self, text: str) -> list[Student]:
        """The students whom an id names: the id of the roster, or a login or address in it."""
        if text in self._exact:
            return [self._exact[text]]
        return list(self._ids.get(_compared(text), {}).values())

    def of(self, entry: str) -> Owner:
        """Whose an entry is, by its name."""
        entry = unicodedata.normalize("NFC", entry)
        stem = without_ending(entry)
        if len(exact := self.by_id(entry)) == 1 and self._all_ids:
            return Owner(tuple(exact), f"{entry} is the id")
        match label_of(entry):
            case None:
                return self._of_repository(stem) or self._of_plain(stem)
            case Label(anonymous=True) as label:
                return Owner(
                    why=f"{label.platform} hides whose it is: show the names there", or_anybody=True
                )
            case Label("Moodle" | "Canvas") as label:
                return self._of_numbered(label)
            case Label("Gradescope") as label:
                return self._of_people(entry, label)
            case label:
                return self._of_login(entry, label)

    # By the rules of platforms

    def _of_numbered(self, label: Label) -> Owner:
        """Canvas and Moodle: a number and a name, which must not contradict each other."""
        by_name = self.names.find(label.name)
        number = self._numbers.get(f"{label.platform} {label.number}")
        known = any(each.startswith(label.platform) for each in self._numbers)
        what = f"{label.platform}'s number {label.number}"
        for login in label.logins:
            if len(found := self.by_id(login)) == 1:
                return Owner(tuple(found), f"{label.platform}: the id {login}")
        blind = not by_name and label.platform == "Moodle"  # it says Participant for a name
        if number is not None and (number in by_name or blind):
            return Owner((number,), f"{label.platform}: the number {label.number}")
        if number is not None:
            others = f"the name is that of {_listed(by_name)}" if by_name else "the name is not"
            why = f"{what} is that of {_label(number)}, {others}"
            return Owner(why=why, may_be=(number, *by_name))
        if len(by_name) > 1:
            why = f"{len(by_name)} are called so: {_listed(by_name)}"
            return Owner(why=why, may_be=tuple(by_name))
        if by_name and known:
            why = f"the name is that of {_label(by_name[0])}, but {what} is another one"
            return Owner(why=why, may_be=tuple(by_name))
        if by_name:
            return Owner(tuple(by_name), f"{label.platform}: the name", by_name=True)
        return self._nobody(label.name)

    def _of_login(self, entry: str, label: Label) -> Owner:
        """Blackboard and nbgrader: a login, which ends what may be several words."""
        begins = entry.partition(label.moment)[0] + label.moment
        if people := self.people.get(begins):
            return self._of_persons(people, label)
        found = {each.student: each for login in label.logins for each in self.by_id(login)}
        if len(found) == 1:
            (student,) = found.values()
            return Owner((student,), f"{label.platform}: the login")
        if found:
            why = f"several logins fit: {_listed(found.values())}"
            return Owner(why=why, may_be=tuple(found.values()))
        return self._nobody(label.logins[-1] if label.logins else "", "has this login")

    def _of_people(self, entry: str, label: Label) -> Owner:
        people = self.people.get(entry)
        if not people:
            why = "Gradescope's submission_metadata.yml beside it does not name it"
            return Owner(why=why, or_anybody=True)
        return self._of_persons(people, label)

    def _of_persons(self, people: Sequence[Person], label: Label) -> Owner:
        """Those whom a platform's own file names."""
        found: dict[str, Student] = {}
        unknown = []
        for person in people:
            by_id = next((ids for each in person.ids if (ids := self.by_id(each))), [])
            by_name = self.names.find(person.name)
            if len(by_id) == 1 and by_name and by_id[0] not in by_name:
                why = f"the id is that of {_label(by_id[0])}, the name that of {_listed(by_name)}"
                return Owner(why=why, may_be=(*by_id, *by_name))
            if len(them := by_id or by_name) == 1:
                found[them[0].student] = them[0]
            elif them:
                return Owner(why=f"it may be of {_listed(them)}", may_be=tuple(them))
            else:
                unknown.append(person.name or "".join(person.ids[:1]))
        if not found:
            return self._nobody(", ".join(unknown))
        why = f"{label.platform}: its own file on it"
        if len(found) > 1:
            why += f", handed in together by {_listed(found.values())}"
        if unknown:
            why += f"; not on the roster: {', '.join(sorted(unknown))}"
        return Owner(tuple(found.values()), why)

    def _repositories(self, stem: str) -> Iterator[tuple[str, Student]]:
        """What may stand before a login at the end of a repository's name, and whose that is."""
        words = _compared(stem).split("-")
        for at in range(1, len(words)):
            prefix, login = "-".join(words[:at]), "-".join(words[at:])
            again = re.sub(r"-\d{1,2}$", "", login)  # where a repository of that name was there
            if student := self._logins.get(login) or self._logins.get(again):
                yield prefix, student

    def _of_repository(self, stem: str) -> Owner | None:
        """GitHub Classroom: a folder is called by the assignment and the login."""
        if student := self._logins.get(_compared(stem)):
            return Owner((student,), "GitHub: the repository or the login")
        found = dict(self._repositories(stem))
        if not found:
            return None
        if self._prefix:
            if student := found.get(self._prefix):
                return Owner((student,), f"GitHub: the login behind {self._prefix}-")
            them = tuple(found.values())
            why = f"it may be of {_listed(them)}, but the others begin with {self._prefix}-"
            return Owner(why=why, may_be=them)
        if len(found) > 1:
            them = tuple(found.values())
            return Owner(why=f"several logins fit: {_listed(them)}", may_be=them)
        ((prefix, student),) = found.items()
        return Owner((student,), f"GitHub: the login behind {prefix}-")

    # By an id or a name that a person gave it

    def _of_plain(self, stem: str) -> Owner:
        """A whole id or name, before one among other words; two people's are a doubt."""
        by_id = {each.student: each for each in self.by_id(stem)}
        by_name = {each.student: each for each in self.names.find(stem)}
        if len(by_id) == 1 and self._all_ids:
            return Owner(tuple(by_id.values()), f"{stem} is the id")
        if by_id and re.search(r"[\d._@]", stem):  # as no name is written
            by_name = {}
        if by_id or by_name:
            if by_id:
                by_name |= {each.student: each for each in self.names.has_word(stem)}
            return self._settled(by_id, by_name, "the id", "the name")
        begins, ends = self._ids_at_the_ends(stem)
        by_id = {**begins, **ends}
        by_name = {each.student: each for each in self.names.within(stem)}
        words = re.split(r"[\W_]+", stem)
        for word in words if by_id else ():
            if self.by_id(word):
                by_name |= {each.student: each for each in self.names.has_word(word)}
        if not by_id and not by_name:
            return self._nobody(stem)
        owner = self._settled(by_id, by_name, "an id in it", "the name in it")
        if strange := [word for each in owner.students for word in self._strange(words, each)]:
            what = "an id" if by_id else "the name"
            why = f"it has {what} of {_listed(owner.students)}, and says {' '.join(strange)}, too"
            return Owner(why=why, may_be=owner.students)
        return owner

    def _strange(self, words: Sequence[str], student: Student) -> list[str]:
        """The words that may be another name: they are no student's, and nothing of the course.

        There are none where an id with a number tells enough.
        """
        ids = [_compared(each) for each in _ids_of(student)]
        own = {plain_letters(each) for each in re.split(r"[\W_]+", student.name)}
        own |= {plain_letters(each) for each in words_of(student.name)}
        own |= {part for each in ids for part in re.split(r"[\W_]+", each)}
        parts = [_compared(word) for word in words]
        if any(part in ids and re.search(r"\d", part) for part in parts):
            return []
        return [
            word
            for word, part in zip(words, parts, strict=True)
            if (bare := re.sub(r"\d+", "", part))
            and bare not in _COURSE
            and part not in own
            and plain_letters(part) not in own
            and not self._is_run_together(part, student)
        ]

    def _is_run_together(self, word: str, student: Student) -> bool:
        return any(each is student for each in self.names.find(word))

    def _settled(
        self, by_id: dict[str, Student], by_name: dict[str, Student], id_: str, name: str
    ) -> Owner:
        found = {**by_id, **by_name}
        if len(found) == 1:
            (student,) = found.values()
            return Owner((student,), id_ if by_id else name, by_name=not by_id)
        if by_id and by_name and len(by_id) == 1:
            (student,) = by_id.values()
            others = [each for who, each in by_name.items() if who not in by_id]
            why = f"it has the id of {_label(student)}, and the name of {_listed(others)}"
            return Owner(why=why, may_be=tuple(found.values()))
        why = f"it may be of {_listed(found.values())}"
        return Owner(why=why, may_be=tuple(found.values()))

    def _ids_at_the_ends(self, stem: str) -> tuple[dict[str, Student], dict[str, Student]]:
        """Whose id a name begins or ends with, parted from the rest; at each end the longest."""
        cuts = [found.span() for found in re.finditer(r"[\s_.,()\[\]-]+", stem[:200])]
        begins = [stem[:start] for start, _ in reversed(cuts)]
        ends = [stem[end:].rstrip(")]") for _, end in cuts]
        sides = []
        for texts in (begins, ends):
            # A short number may be that of an attempt, a lab or a copy.
            known = (self.by_id(each) for each in texts if not _is_short(each))
            sides.append({each.student: each for each in next(filter(None, known), [])})
        return sides[0], sides[1]

    def _nobody(self, name: str, what: str = "is called so") -> Owner:
        """Nobody, and who may be meant all the same."""
        like = self.names.like(name)
        like += [each for part in re.split(r"[\W_]+", name)[:9] for each in self.by_id(part)]
        may_be = {each.student: each for each in like}
        if 0 < len(may_be) <= 5:
            why = f"{NOT_ON_ROSTER} {what}; it may be of {_listed(may_be.values())}"
            return Owner(why=why, may_be=tuple(may_be.values()), or_anybody=True)
        return Owner(why=f"{NOT_ON_ROSTER} {what}", or_anybody=True)


def _ids_of(student: Student) -> Iterator[str]:
    """All texts of a roster that name a student, such as an e-mail address and what begins it."""
    texts = [student.student, file_name(student.student)]
    for heading, text in student.columns.items():
        if letters(heading) in _ID_HEADINGS and not re.fullmatch(r"Participant \d+", text):
            texts.append(text)
    for text in texts:
        yield text
        before, at, _ = text.partition("@")
        if at and before:
            yield before


def _compared(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _is_short(text: str) -> bool:
    return len(text) < 2 or (text.isdecimal() and len(text) < 5)


def _label(student: Student) -> str:
    return f"{student.student} ({student.name})" if student.name else student.student


def _listed(students: Iterable[Student]) -> str:
    return ", ".join(sorted({_label(each) for each in students}))
