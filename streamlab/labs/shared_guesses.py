"""The guesses that a student shares with the class: a file that is handed in beside the program.

Nothing is shared unless the student asks for it. The file has no name in it and no time. Who reads
it trusts nothing in it: `from_json` takes only what `share` can have written.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from streamlab.errors import StreamlabError
from streamlab.files import KiB, reason_of, size_text
from streamlab.labs.chapters import MOST_TEXT, Chapter

FILE = "guesses.json"
"""The file's name."""
VERSION = 1
"""Of the file's form: raised whenever that changes."""
LARGEST = 512 * KiB
"""What the file may have, in bytes. `MOST` guesses with the longest texts fit."""
MOST = 200
"""How many guesses it may hold."""
OUTCOMES = ("hit", "near", "off")

_ID = re.compile(r"[0-9a-f]{32}")
_CHAPTER = re.compile(r"[0-9]{2}")


class GuessesError(StreamlabError):
    """Guesses can't be shared, or a file of them can't be read; the message says why."""


@dataclass(frozen=True)
class SharedGuess:
    """One guess of a student. All texts are the student's to write."""

    chapter: str
    """Two digits."""
    row: str
    """The row of the table in which the chapter shows it."""
    guess: str
    """In the form in which it was asked for: `64 MiB`."""
    measured: str
    """What was measured, in that form."""
    outcome: str
    """One of `OUTCOMES`."""


@dataclass(frozen=True)
class SharedGuesses:
    """The guesses that one student shares."""

    id: str
    """32 hexadecimal digits, drawn anew for each file: two files with one id are copies."""
    guesses: tuple[SharedGuess, ...]
    """No two of one row of a chapter."""

    def to_json(self) -> str:
        """The file's text."""
        guesses = [asdict(each) for each in self.guesses]
        content = {"streamlab_guesses": VERSION, "id": self.id, "guesses": guesses}
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def share(chapters: Iterable[Chapter], folder: Path) -> tuple[Path, SharedGuesses]:
    """Write the guesses of chapters into a folder, for the class; returns the file and them.

    A file that lies there is replaced. Raises `GuessesError` if there is no guess, or if the file
    can't be written.
    """
    found: dict[tuple[str, str], SharedGuess] = {}
    for chapter in chapters:
        for each in chapter.guesses:
            label, guess, measured = map(_clean, (each.label, each.guess, each.measured))
            one = SharedGuess(chapter.number, label, guess, measured, each.outcome)
            if (
                all((label, guess, measured))
                and one.outcome in OUTCOMES
                and _CHAPTER.fullmatch(one.chapter)
            ):
                found.setdefault((one.chapter, one.row), one)
    if not found:
        raise GuessesError(
            "there are no guesses to share yet: set some in a chapter, and run it to its score"
        )
    shared = SharedGuesses(secrets.token_hex(16), tuple(found.values())[:MOST])
    file = folder / FILE
    part = file.with_suffix(".part")
    try:
        try:
            part.write_text(shared.to_json(), encoding="utf-8")
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise GuessesError(f"{file} can't be written: {reason_of(error)}") from error
    return file, shared


def from_json(content: bytes) -> SharedGuesses:
    """The guesses in a file that somebody else has made; raises `GuessesError` with the reason."""
    if len(content) > LARGEST:
        raise GuessesError(f"it is larger than {size_text(LARGEST)}")
    try:
        read = json.loads(
            content.decode("utf-8"), object_pairs_hook=_fields, parse_constant=_no_number
        )
    except UnicodeDecodeError as error:
        raise GuessesError("it is not in UTF-8") from error
    except RecursionError as error:
        raise GuessesError("it is nested too deeply") from error
    except ValueError as error:  # a number of very many digits is one, too
        raise GuessesError("it is no JSON") from error
    if not isinstance(read, dict) or "streamlab_guesses" not in read:
        raise GuessesError("it is no file of streamlab progress --share-guesses")
    version = read["streamlab_guesses"]
    if type(version) is not int or version != VERSION:
        raise GuessesError(f"it is of another version than {VERSION}")
    if set(read) != {"streamlab_guesses", "id", "guesses"}:
        raise GuessesError("it has other fields than it may have")
    if not isinstance(read["id"], str) or not _ID.fullmatch(read["id"]):
        raise GuessesError("its id is none")
    if not isinstance(read["guesses"], list) or len(read["guesses"]) > MOST:
        raise GuessesError(f"its guesses are no list of {MOST} at most")
    guesses = tuple(_guess(number, each) for number, each in enumerate(read["guesses"], start=1))
    if len({(each.chapter, each.row) for each in guesses}) != len(guesses):
        raise GuessesError("it has two guesses of one row")
    return SharedGuesses(read["id"], guesses)


def _clean(text: str) -> str:
    """A text without what can't be printed, on one line."""
    return "".join(each for each in " ".join(text.split()) if each.isprintable())[:MOST_TEXT]


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of two fields of one name it is open which is meant (RFC 8259, section 4)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise GuessesError("it has one field twice")
    return found


def _no_number(name: str) -> None:
    raise GuessesError(f"it has the number {name}, which JSON does not know")


def _guess(number: int, read: object) -> SharedGuess:
    wanted = [each.name for each in fields(SharedGuess)]
    if not isinstance(read, dict) or set(read) != set(wanted):
        raise GuessesError(f"guess {number} has other fields than it may have")
    for name in wanted:
        text = read[name]
        if not isinstance(text, str) or not 0 < len(text) <= MOST_TEXT:
            raise GuessesError(f"guess {number}: {name} is no text of 1 to {MOST_TEXT} characters")
    found = SharedGuess(**read)
    if not _CHAPTER.fullmatch(found.chapter):
        raise GuessesError(f"guess {number}: its chapter is no number of two digits")
    if found.outcome not in OUTCOMES:
        raise GuessesError(f"guess {number}: its outcome is none of {', '.join(OUTCOMES)}")
    return found
