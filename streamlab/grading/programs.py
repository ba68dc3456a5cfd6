"""Which of a submission's files is the program that a lab asks for, or what is there instead."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from streamlab.grading.contents import (
    File,
    Search,
    Unreadable,
    guesses_copy,
    plain,
    read_guesses,
    read_program,
)
from streamlab.labs.manifest import Lab
from streamlab.labs.shared_guesses import GuessesError, from_json

MOST_EQUAL = 20
"""How many files of an equal claim are compared."""

_NAMED = 3
"""How many files a reason names."""
_TEST = re.compile(r"(?:.*[\W_])?(?:tests?|conftest)(?:[\W_].*)?\.py(?:\.txt)?", re.IGNORECASE)


def choose(name: str, files: Sequence[File], lab: Lab, notes: list[str]) -> File | None:
    """The file that is most like the program `name`; None if none is.

    One that is still the lab's stub goes behind all others. Raises `Unreadable` where two have an
    equal claim and other contents: that is for a person to tell.
    """
    ranked = [
        (rank, file.shown, file)
        for file in files
        if (rank := _rank(name, file.path, lab)) is not None
    ]
    ranked.sort(key=lambda each: each[:2])  # a zip file may have two of the very same name
    if not ranked:
        return _only_one(name, files, lab, notes)
    groups: dict[tuple[int, ...], list[File]] = {}
    for rank, _, file in ranked:
        groups.setdefault(rank, []).append(file)
    first = next(iter(groups.values()))
    for group in list(groups.values())[:MOST_EQUAL]:
        chosen, content = _one_of(name, group)
        if lab.attempted_text(name, content.decode("utf-8", "replace")):
            if group is not first:
                notes.append(f"{plain(first[0].shown)} is still the stub")
            break
    else:
        chosen, _ = _one_of(name, first)
    if chosen.path.name != name:
        notes.append(f"{plain(chosen.path.name)} was taken for {name}")
    return chosen


def _one_of(name: str, group: Sequence[File]) -> tuple[File, bytes]:
    """A file of an equal claim with the others, and its content, which is that of all."""
    chosen, *others = group
    content = read_program(chosen)
    if len(others) >= MOST_EQUAL:
        raise Unreadable(f"there are {len(group)} of {name}: {plain(chosen.shown)} and others")
    for other in others:
        if read_program(other) != content:
            one, two = plain(chosen.shown), plain(other.shown)
            if one == two:
                one, two = f"{one}, the first", f"{two}, another one of that name"
            raise Unreadable(f"there are two of {name}: {one} and {two}")
    return chosen, content


def _only_one(name: str, files: Sequence[File], lab: Lab, notes: list[str]) -> File | None:
    """The only Python file that there is, whatever it is called, where a lab wants only one."""
    programs = [
        file
        for file in files
        if file.path.suffix.casefold() == ".py" and not file.path.name.startswith("._")
        if not _TEST.fullmatch(file.path.name)
    ]
    if len(lab.programs) != 1 or len(programs) != 1 or _of_another_lab(programs[0].path, lab):
        return None
    notes.append(f"{plain(programs[0].path.name)} was taken for {name}")
    return programs[0]


def _rank(name: str, path: PurePosixPath, lab: Lab) -> tuple[int, ...] | None:
    """How well a file fits, the least best; None for not at all.

    In the lab's own folder before any other place, and in a workspace before the course's copy; its
    very name before a copy's, and that before a longer name; of copies the one with the highest
    number; then the one that lies least deep.
    """
    if path.name.startswith("._") or _of_another_lab(path, lab):
        return None
    how = _likeness(name, path.name)
    if how is None or (how[0] and _TEST.fullmatch(path.name)):
        return None
    folders = [part for part in path.parts[:-1] if _is_folder_of(lab, part)]
    place = (0 if "workspace" in path.parts else 1) if folders else 2
    return (place, *how, len(path.parts))


def _likeness(name: str, other: str) -> tuple[int, int] | None:
    """How much a file's name is like a program's: itself, a copy with its number, a longer name."""
    if other == name:
        return (0, 0)
    stem = re.escape(name.removesuffix(".py"))
    end = r"\.py(?:\.txt)?"
    copy = rf"{stem}[ _-]*(?:\(([0-9]{{1,9}})\)|copy|-?([0-9]{{1,9}}))?{end}"
    if found := re.fullmatch(copy, other, re.IGNORECASE):
        return (1, -int(found[1] or found[2] or 0))
    longer = rf"(?:.*[\W_])?{stem}(?:[\W_].*)?{end}"
    return (2, 0) if len(other) <= 200 and re.fullmatch(longer, other, re.IGNORECASE) else None


def _is_folder_of(lab: Lab, part: str) -> bool:
    """Whether a folder is called like the lab's own; a copy's has more behind it."""
    return bool(re.fullmatch(rf"{re.escape(lab.name)}(?:[\W_].*)?", part, re.IGNORECASE))


def _of_another_lab(path: PurePosixPath, lab: Lab) -> bool:
    """Whether a file lies in the folder of another lab, or is called like its program alone."""
    folders = path.parts[:-1]
    if any(_is_folder_of(lab, part) for part in folders):
        return False
    if any(re.fullmatch(r"\d\d_[a-z][a-z_]+(?:[^a-z_].*)?", part) for part in folders):
        return True
    others = _programs_beside(lab.folder) - set(lab.programs)
    return any((like := _likeness(name, path.name)) and like[0] < 2 for name in others)


@cache
def _programs_beside(folder: Path) -> frozenset[str]:
    """The programs of all labs that lie beside one."""
    labs = (Lab(each.parent) for each in sorted(folder.parent.glob("*/lab.toml")))
    return frozenset(name for lab in labs for name in lab.programs)


# The guesses beside it


def choose_guesses(files: Sequence[File], lab: Lab, notes: list[str]) -> tuple[File, bytes] | None:
    """The file of guesses that a student shares, and its content; None if there is none.

    Of several it is the one nearest to the lab's programs, and the last copy of that. One that
    can't be read is left out, with a note: it is never an obstacle for the program.
    """
    ranked = [
        (_rank_of_guesses(file.path, copy, lab), file.shown, file)
        for file in files
        if (copy := guesses_copy(file.path.name)) is not None
    ]
    if not ranked:
        return None
    file = min(ranked, key=lambda each: each[:2])[2]
    try:
        content = read_guesses(file)
        from_json(content)
    except (Unreadable, GuessesError) as error:
        notes.append(f"the guesses in {plain(file.path.name)} were left out: {plain(error)}")
        return None
    return file, content


def _rank_of_guesses(path: PurePosixPath, copy: int, lab: Lab) -> tuple[int, ...]:
    if any(_is_folder_of(lab, part) for part in path.parts[:-1]):
        place = 0
    else:
        place = 2 if _of_another_lab(path, lab) else 1
    return (place, -copy, len(path.parts))


# What is there instead


def reason_without(lab: Lab, files: Sequence[File], search: Search) -> str:
    """Why there is no program, in words that say what is there: `a notebook (a.ipynb), no x.py`."""
    wanted = " or ".join(lab.programs)
    elsewhere = sorted(plain(each.shown) for each in files if _is_others(each, lab))
    if elsewhere:
        return f"{_listed(elsewhere, 'program')}, of another lab, no {wanted}"
    names = [plain(each.path.name) for each in files] + search.others
    named = [_word_for(name) for name in sorted(set(names), key=_interest)]
    return f"{_listed(named, 'file') or 'nothing in it'}, no {wanted}"


def _is_others(file: File, lab: Lab) -> bool:
    return (
        file.path.suffix.casefold() == ".py"
        and _of_another_lab(file.path, lab)
        and not _TEST.fullmatch(file.path.name)
    )


_WORDS = {
    ".ipynb": "a notebook",
    ".pdf": "a PDF",
    ".doc": "a document",
    ".docx": "a document",
    ".odt": "a document",
    ".png": "a picture",
    ".jpg": "a picture",
    ".jpeg": "a picture",
    ".html": "a web page",
    ".rar": "an archive that is not read here, ask for a zip file",
    ".7z": "an archive that is not read here, ask for a zip file",
    ".xz": "an archive that is not read here, ask for a zip file",
    ".zip": "an archive too deep in others",
}


def _interest(name: str) -> tuple[int, str]:
    """What says most of a submission comes first."""
    endings = [".py", ".ipynb", ".rar", ".7z", ".xz", ".zip", ".txt", ".pdf", ".doc", ".docx"]
    suffix = PurePosixPath(name).suffix.casefold()
    return (endings.index(suffix) if suffix in endings else len(endings), name)


def _word_for(name: str) -> str:
    word = _WORDS.get(PurePosixPath(name).suffix.casefold())
    return f"{word} ({name})" if word else name


def _listed(names: Iterable[str], what: str) -> str:
    them = list(Counter(names))
    rest = len(them) - _NAMED
    if rest > 1:
        return f"{', '.join(them[:_NAMED])} and {rest} other {what}s"
    return ", ".join(them)
