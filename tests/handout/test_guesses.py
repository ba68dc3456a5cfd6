"""Guess cells: which they are, and that only the guess itself is taken out."""

from __future__ import annotations

import pytest

from streamlab.handout.guesses import HandoutError, emptied, guessed_names, is_guess


@pytest.mark.parametrize(
    ("filled", "empty"),
    [
        ("my_growth = 1  # MiB", "my_growth = ...  # MiB"),
        ("my_a, my_b = 1023 * 20, -1  # bytes", "my_a, my_b = ..., ...  # bytes"),
        ('my_answer = "yes"', "my_answer = ..."),
        ('my_own = ["🥤", 2]  # a 🥤', "my_own = ...  # a 🥤"),
        ('mine = {"a": 1, "b": "1 1/3"}  # x file', 'mine = {"a": ..., "b": ...}  # x file'),
        ("my_price = {1 * MiB: 2}", "my_price = {1 * MiB: ...}"),
        (
            '# two\nmine = {  # 🥤\n    "🥤": "🥤🥤",\n    "b": (\n        3\n    + 4\n    ),\n}',
            '# two\nmine = {  # 🥤\n    "🥤": ...,\n    "b": (\n        ...\n    ),\n}',
        ),
        ("mine = {'a': 1}\nmy_b = 2", "mine = {'a': ...}\nmy_b = ..."),
    ],
)
def test_only_the_guess_is_taken_out(filled: str, empty: str) -> None:
    """Names, keys and comments stay; an empty cell is already as it should be."""
    assert emptied(filled) == empty
    assert emptied(empty) == empty


def test_the_names_of_guesses() -> None:
    assert guessed_names("my_a, my_b = 1, 2\nmine = {1: 2}") == {"my_a", "my_b", "mine"}


@pytest.mark.parametrize(
    "source",
    [
        "print(1)",
        "import os\nmy_a = 1",
        "my_a = my_b = 1",
        "my_a: int = 1",
        "my_a += 1",
        "mine['a'] = 1",
        "my_a, my_b = both()",
        "my_a, my_b = 1, 2, 3",
        "mine = {**others, 'a': 1}",
    ],
)
def test_a_cell_that_does_more_is_no_guess_cell(source: str) -> None:
    """It would lose more than a guess."""
    with pytest.raises(HandoutError, match="more than set guesses"):
        emptied(source)


def test_a_guess_cell_says_so() -> None:
    assert is_guess({"metadata": {"streamlab": {"guess": True}}})
    assert not is_guess({"metadata": {"streamlab": {"guess": False}}})
    assert not is_guess({"metadata": {"tags": ["guess"]}})
    assert not is_guess({})
