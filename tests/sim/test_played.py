"""Words are not played, and all else is."""

from __future__ import annotations

import pytest

from tests.sim.played import without_words

CODE = '''
"""A module."""
# A comment.
NAME = "a # b"  # "another"
"""What it is: ä."""


class One:
    """A class,
    of two lines."""

    def two(self) -> str:
        """A function."""
        return f"{NAME}" "x"
'''


def test_of_code_there_is_left_what_is_played() -> None:
    assert without_words(CODE).splitlines() == [
        'NAME = "a # b"',
        "class One:",
        "    def two(self) -> str:",
        '        return f"{NAME}" "x"',
    ]


@pytest.mark.parametrize(
    "old, new", [("A comment", "Words"), ("A class,", "A class\n\n"), (': ä."""', '"""')]
)
def test_other_words_are_the_same_code(old: str, new: str) -> None:
    assert old in CODE
    assert without_words(CODE.replace(old, new)) == without_words(CODE)


@pytest.mark.parametrize(
    "old, new", [("a # b", "a # c"), ('"x"', '"y"'), ("two", "three"), ("    def", "def")]
)
def test_other_code_is_not(old: str, new: str) -> None:
    assert old in CODE
    assert without_words(CODE.replace(old, new)) != without_words(CODE)
