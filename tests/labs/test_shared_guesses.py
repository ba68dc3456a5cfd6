"""Guesses are shared on request only, and a file of them is believed in nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streamlab.cli import app
from streamlab.labs.chapters import MOST_TEXT, Chapter, Guess, remember_guesses
from streamlab.labs.shared_guesses import (
    FILE,
    LARGEST,
    MOST,
    GuessesError,
    SharedGuess,
    from_json,
    share,
)

ONE = {"chapter": "01", "row": "10 clients", "guess": "64 MiB", "measured": "640 MiB"}
ONE["outcome"] = "off"


def content(*guesses: object, **others: object) -> bytes:
    """A file with these guesses; `others` replace its fields."""
    fields: dict[str, Any] = {"streamlab_guesses": 1, "id": "0f" * 16, "guesses": list(guesses)}
    return json.dumps(fields | others).encode()


# Sharing


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with guesses of two chapters, in which we are."""
    lab = tmp_path / "labs" / "02_chunked_loop"
    lab.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    remember_guesses("01", 2, [Guess("10 clients", "64 MiB", "640 MiB", "off", "10 x too small")])
    remember_guesses("02", 9, [Guess("holder", "the kernel", "the kernel", "hit", "hit")])
    return tmp_path


def streamlab(*arguments: str) -> str:
    """What the command says of sharing."""
    return CliRunner().invoke(app, arguments, catch_exceptions=False).stderr


def test_nothing_is_shared_without_the_option(workspace: Path) -> None:
    before = sorted(workspace.rglob("*"))
    assert streamlab("progress") == "" and streamlab("progress", "--json") == ""
    assert sorted(workspace.rglob("*")) == before


def test_on_request_a_file_has_the_guesses_and_no_more(workspace: Path) -> None:
    """What was guessed and measured, and nothing of who and when."""
    told = streamlab("progress", "--share-guesses")
    assert f"{workspace / FILE}: 2 guesses, without your name" in told
    read = json.loads((workspace / FILE).read_text())
    assert set(read) == {"streamlab_guesses", "id", "guesses"}
    assert read["guesses"][0] == ONE
    shared = from_json((workspace / FILE).read_bytes())
    assert shared.guesses[1] == SharedGuess("02", "holder", "the kernel", "the kernel", "hit")
    assert sorted(os.listdir(workspace)) == [
        ".streamlab",
        FILE,
        "labs",
    ]


def test_each_file_has_an_id_of_its_own(workspace: Path) -> None:
    chapters = [Chapter("01", 1, (Guess("a", "1", "2", "off", "2 x"),))]
    assert share(chapters, workspace)[1].id != share(chapters, workspace)[1].id


def test_in_the_folder_of_a_lab_the_file_lies_there(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = workspace / "labs" / "02_chunked_loop"
    source = Path(__file__).parents[2] / "solutions" / "02_chunked_loop" / "lab.toml"
    (lab / "lab.toml").write_text(source.read_text())
    monkeypatch.chdir(lab)
    assert "2 guesses" in streamlab("progress", "--share-guesses")
    assert (lab / FILE).is_file() and not (workspace / FILE).exists()


def test_with_json_the_object_stands_alone(workspace: Path) -> None:
    ran = CliRunner().invoke(app, ["progress", "--json", "--share-guesses"])
    assert set(json.loads(ran.stdout)) == {"labs", "chapters"}
    assert (workspace / FILE).is_file()


def test_without_a_guess_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(GuessesError, match="no guesses to share yet"):
        share([Chapter("01", 9, ())], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(GuessesError, match="can't be written"):
        share([Chapter("01", 1, (Guess("a", "1", "2", "off", ""),))], tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [FILE]


def test_what_is_shared_can_be_read_whatever_was_guessed(tmp_path: Path) -> None:
    """The most guesses of the longest texts, with all that a text may have in it."""
    odd = '"\\\ud800\x00\u202e\n' + "\U0001f964" * MOST_TEXT
    guesses = tuple(Guess(f"{number} {odd}", odd, odd, "off", "") for number in range(MOST + 9))
    file, shared = share([Chapter("01", 1, guesses), Chapter("xx", 1, guesses)], tmp_path)
    assert len(shared.guesses) == MOST
    assert file.stat().st_size <= LARGEST
    assert from_json(file.read_bytes()) == shared


# Reading


def test_a_file_reads_back() -> None:
    assert from_json(content(ONE)).guesses == (SharedGuess(**ONE),)
    assert from_json(content()).guesses == ()


HOSTILE = {
    "larger than 512 KiB": content(ONE) + b" " * LARGEST,
    "not in UTF-8": content(ONE).replace(b"clients", b"\xff\xfe"),
    "nested too deeply": b"[" * 500_000,
    "no JSON": b'{"streamlab_guesses": 1, "id":',
    "no file of streamlab": b'["streamlab_guesses"]',
    "no file of streamlab progress": b"{}",
    "another version than 1": content(ONE, streamlab_guesses=2),
    "another version": content(ONE, streamlab_guesses=True),
    "another version than": content(ONE, streamlab_guesses="1"),
    "other fields than": content(ONE, name="Ann"),
    "its id is none": content(ONE, id="0F" * 16),
    "its id is": content(ONE, id=["0f" * 16]),
    "no list of 200": content(ONE, guesses={"0": ONE}),
    "no list of 200 at most": content(*(ONE | {"row": str(row)} for row in range(MOST + 1))),
    "two guesses of one row": content(ONE, ONE),
    "the number NaN": content(ONE | {"guess": float("nan")}),
    "the number Infinity": content(ONE | {"guess": float("inf")}),
    "one field twice": content(ONE).replace(b'"row"', b'"chapter"'),
    "guess 1 has other fields": content({**ONE, "by": "Ann"}),
    "guess 2 has other fields": content(ONE, {"chapter": "01"}),
    "guess 1 has other fields than": content("64 MiB"),
    "has other fields than it may": content(list(ONE)),
    "guess is no text": content(ONE | {"guess": 64}),
    "row is no text": content(ONE | {"row": None}),
    "measured is no text": content(ONE | {"measured": ["640 MiB"]}),
    "guess is no text of 1 to 200": content(ONE | {"guess": ""}),
    "guess is no text of 1 to 200 characters": content(ONE | {"guess": "x" * (MOST_TEXT + 1)}),
    "no number of two digits": content(ONE | {"chapter": "1"}),
    "no number of two": content(ONE | {"chapter": "\u0661\u0662"}),
    "none of hit, near, off": content(ONE | {"outcome": "won"}),
    "nested too": b'{"a":' * 100_000,
    "no JSON here": b'{"streamlab_guesses": ' + b"9" * 100_000 + b"}",
    "nothing but no JSON": b"",
}


@pytest.mark.parametrize("words", HOSTILE)
def test_a_file_that_nobody_shared_is_refused(words: str) -> None:
    """With the reason in one line; no other error is raised."""
    expected = words.removesuffix(" here").removeprefix("nothing but ")
    with pytest.raises(GuessesError, match=expected) as refused:
        from_json(HOSTILE[words])
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 120
