"""Names of people, as rosters and learning platforms write them: the same person in every form."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import permutations

from streamlab.grading.records import Student

_OTHER_LETTERS = str.maketrans(
    {
        "\u00e6": "ae",
        "\u0153": "oe",
        "\u00f8": "o",
        "\u0142": "l",
        "\u0111": "d",
        "\u00f0": "d",
        "\u00fe": "th",
        "\u0131": "i",
    }
)
"""Letters that Unicode does not take apart into a letter and a mark."""
_MOST_WORDS = 5
"""Of a longer name only the turns are compared, not every order of its words."""


def letters(text: str) -> str:
    """The letters and digits of a text, with their accents, in small letters: `o'Gee` is `ogee`."""
    small = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(each for each in small if unicodedata.category(each)[0] in "LMN")


def plain_letters(text: str) -> str:
    """The letters and digits of a text without accents, in small letters: `Zo\u00eb` is `zoe`."""
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    kept = (each for each in apart if unicodedata.category(each)[0] in "LN")
    return "".join(kept).translate(_OTHER_LETTERS)


def words_of(name: str) -> list[str]:
    """The words of a name, parted by space and commas; a hyphen or an apostrophe parts nothing."""
    return [word for word in re.split(r"[\s,]+", name) if plain_letters(word)]


def _orders(words: Sequence[str]) -> Iterable[Sequence[str]]:
    if len(words) <= _MOST_WORDS:
        return permutations(words)
    return (tuple(words[turn:]) + tuple(words[:turn]) for turn in range(len(words)))


class Names:
    """The names of a class, to find students by.

    A name is found in any order of its words, with or without space, capitals, apostrophes and
    hyphens between its letters. Accents may be missing, unless two students differ in them alone.
    """

    def __init__(self, roster: Iterable[Student]) -> None:
        self._exact: dict[str, list[Student]] = defaultdict(list)
        self._plain: dict[str, list[Student]] = defaultdict(list)
        self._usual: dict[str, list[Student]] = defaultdict(list)
        self._words: list[tuple[Student, set[str], list[str]]] = []
        for student in roster:
            if not (words := words_of(student.name)):
                continue
            for order in (words, words[-1:] + words[:-1]):
                self._usual[plain_letters("".join(order))].append(student)
            plain = {plain_letters(word) for word in words}
            self._words.append((student, plain, [word for word in plain if len(word) > 1]))
            orders = list(_orders(words))
            for key in {letters("".join(order)) for order in orders}:
                self._exact[key].append(student)
            for key in {plain_letters("".join(order)) for order in orders}:
                self._plain[key].append(student)

    def find(self, text: str) -> list[Student]:
        """The students whose whole name a text is; several if it can't tell them apart."""
        plain = plain_letters(text)
        found = self._plain.get(plain, [])
        if len(found) > 1 and letters(text) != plain:
            return self._exact.get(letters(text)) or found
        return list(found)

    def within(self, text: str) -> list[Student]:
        """The students whose name, of two words or more, stands in a text between other words."""
        words = [word for word in re.split(r"[\W_]+", unicodedata.normalize("NFC", text)) if word]
        found: dict[str, Student] = {}
        for begin in range(min(len(words), 40)):
            for end in range(begin + 1, min(len(words), begin + 8) + 1):
                for student in self.find("".join(words[begin:end])):
                    if len(words_of(student.name)) > 1:
                        found[student.student] = student
        return list(found.values())

    def like(self, text: str) -> list[Student]:
        """The students whose name is much like a text, which is not enough to take it for theirs.

        All words of the name stand in it, or all of its words in the name, or nearly all letters
        are the same.
        """
        text = text[:200]
        here = plain_letters(text)
        words = {plain_letters(word) for word in re.split(r"[\W_\d]+", text)} - {""}
        keys = [
            key
            for key in self._usual
            if abs(len(key) - len(here)) < 3 and (key[:1] == here[:1] or key[-1:] == here[-1:])
        ]
        near = difflib.get_close_matches(here, keys, n=5, cutoff=0.85)
        found = {each.student: each for key in near for each in self._usual[key]}
        for student, name, long in self._words:
            if (len(long) > 1 and all(word in here for word in long)) or (
                len(words & name) > 1 and words <= name
            ):
                found[student.student] = student
        return list(found.values())

    def has_word(self, word: str) -> list[Student]:
        """The students who have a word in their name."""
        wanted = plain_letters(word)
        return [student for student, words, _ in self._words if wanted in words]
