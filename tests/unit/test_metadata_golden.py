"""The bytes of commands and of an image: what is on disks already is read, and written the same."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from raftlog.metadata.commands import COMMANDS, decode_command, encode_command
from raftlog.metadata.state import MetadataState
from tests.unit.metadata_examples import EXAMPLES, replayed

GOLDEN: Final[list[tuple[str, bytes]]] = [
    (name, bytes.fromhex(lines))
    for name, _, lines in (
        part.partition("\n")
        for part in Path(__file__).with_name("metadata_golden.txt").read_text().split("\n\n")
    )
]
"""Name and bytes, as builds wrote them: a line that is here is never changed."""


def test_every_command_is_written_as_ever() -> None:
    assert {example.kind for example in EXAMPLES} == COMMANDS.keys()
    assert [(one.kind, encode_command(one)) for one in EXAMPLES] == GOLDEN[: len(EXAMPLES)]


def test_every_command_of_older_builds_is_read() -> None:
    assert [decode_command(data) for _, data in GOLDEN[: len(EXAMPLES)]] == list(EXAMPLES)


def test_an_image_is_written_as_ever() -> None:
    (_, data), (_, empty), (_, sum_of) = GOLDEN[len(EXAMPLES) :]
    assert MetadataState().to_bytes() == empty
    state = replayed()
    assert state.to_bytes() == data
    assert state.digest() == sum_of
    restored = MetadataState()
    restored.restore(data)
    assert restored.catalog == state.catalog and restored.digest() == sum_of
