"""What platforms write beside submissions, about whose they are and when they came.

These are Gradescope's file on all of them, and Blackboard's text on each attempt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from streamlab.files import KiB, MiB, read_plain
from streamlab.grading.owners import Person
from streamlab.grading.platforms import label_of
from streamlab.grading.task import GradingError
from streamlab.grading.times import HandedIn, read_time

GRADESCOPE = "submission_metadata.yml"
"""What Gradescope's export has beside the folders of submissions."""
LARGEST = 32 * MiB
"""What that file may have, in bytes: it holds the results of Gradescope's own grader, too."""
_LARGEST_TEXT = 64 * KiB
_ABOUT = re.compile(r"Name:\s*(?P<name>.+?)\s*\((?P<login>[^()]+)\)\s*$", re.MULTILINE)
_SUBMITTED = re.compile(r"Date Submitted:[ \t]*(?P<time>.+?)[ \t]*$", re.MULTILINE)
_OF_STUDENT = re.compile(r"^(?:Submission Field|Comments|Files):", re.MULTILINE)
"""Where the student's own words begin."""


@dataclass(frozen=True)
class About:
    """What the platforms' own files say, by the beginning of what was handed in."""

    people: dict[str, Sequence[Person]] = field(default_factory=dict)
    times: dict[str, HandedIn] = field(default_factory=dict)


def about(folder: Path, entries: Sequence[str]) -> About:
    """What the platforms' own files in a folder say of what lies beside them.

    Raises `GradingError` for a file of Gradescope that can't be read.
    """
    found = About()
    for entry in entries:
        if entry == GRADESCOPE:
            _gradescopes(folder / entry, found)
        elif (label := label_of(entry)) is not None and label.about:
            _blackboards(folder / entry, entry.partition(label.moment)[0] + label.moment, found)
    return found


def _gradescopes(file: Path, found: About) -> None:
    """Gradescope's file: `submission_1:` `:submitters:` `- :name: ...`, `:sid:`, `:created_at:`."""
    try:
        content = read_plain(file, LARGEST + 1)
        if len(content) > LARGEST:
            raise GradingError(f"{file} is larger than any that Gradescope writes")
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it is
        everything = yaml.load(content, loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())[:200]
        raise GradingError(f"{file} can't be read: {why}") from error
    for name, facts in everything.items() if isinstance(everything, dict) else ():
        if not isinstance(facts, dict):
            continue
        submitters = facts.get(":submitters")
        if isinstance(submitters, list):
            people = [_person(each) for each in submitters if isinstance(each, dict)]
            found.people[str(name)] = people
        created = facts.get(":created_at")
        if isinstance(created, datetime | str):
            _remember(found, str(name), str(created), "Gradescope: its own file")


def _person(facts: Mapping[Any, Any]) -> Person:
    ids = [str(facts.get(key) or "").strip() for key in (":sid", ":email")]
    return Person(str(facts.get(":name") or "").strip(), tuple(each for each in ids if each))


def _blackboards(file: Path, begins: str, found: About) -> None:
    """Blackboard's text on an attempt: `Name: Ann Lee (alee)`, and below it `Date Submitted: ...`.

    What the student wrote stands below that, and is not read.
    """
    try:
        text = read_plain(file, _LARGEST_TEXT).decode("utf-8-sig", "replace")
    except OSError:
        return
    text = _OF_STUDENT.split(text, maxsplit=1)[0]
    if person := _ABOUT.search(text):
        found.people[begins] = [Person(person["name"], (person["login"].strip(),))]
    if submitted := _SUBMITTED.search(text):
        _remember(found, begins, submitted["time"], "Blackboard: its own text on it")


def _remember(found: About, begins: str, text: str, source: str) -> None:
    """Keep a time, if it is one: what the name says, or nothing, counts otherwise."""
    try:
        found.times[begins] = HandedIn(read_time(text), source)
    except ValueError:
        return
