"""The bytes of commands and of an image: what is on disks already is read, and written the same."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from raftlog.metadata.commands import COMMANDS, decode_command, encode_command
from raftlog.metadata.state import MetadataState
from tests.unit.metadata_examples import ACLS, EXAMPLES, GROUPS, QUOTAS, TRANSACTIONS, USERS, replayed

GOLDEN: Final = Path(__file__).with_name("metadata_golden.txt").read_text().strip().split("\n\n")
"""Name and bytes, as builds wrote them: what is here is never changed, a command that is added adds to it."""

IMAGES: Final = {name: bytes.fromhex(data) for name, _, data in (one.partition("\n") for one in GOLDEN[:8])}


def block(name: str, data: bytes) -> str:
    rows = [data[at : at + 50].hex() for at in range(0, len(data), 50)]
    return "\n".join((name, *rows))


def test_every_command_is_written_as_ever() -> None:
    assert {example.kind for example in EXAMPLES} == COMMANDS.keys(), "an example of each"
    written = [block(one.kind, encode_command(one)) for one in EXAMPLES]
    added = "\n\n".join(one for one in written if one not in GOLDEN)
    assert GOLDEN[8:] == written, f"metadata_golden.txt has other than these:\n{added}"


def test_every_command_of_older_builds_is_read() -> None:
    written = [bytes.fromhex(one.partition("\n")[2]) for one in GOLDEN[8:]]
    assert [decode_command(data) for data in written] == list(EXAMPLES)


def test_an_image_is_written_as_ever() -> None:
    assert MetadataState().to_bytes() == IMAGES["empty"]
    state = replayed()
    assert state.to_bytes() == IMAGES["image"]
    assert state.digest() == IMAGES["digest"]
    with_groups = replayed(*GROUPS)
    assert with_groups.to_bytes() == IMAGES["image of version 3"]
    with_transactions = replayed(*GROUPS, *TRANSACTIONS)
    assert with_transactions.to_bytes() == IMAGES["image of version 4"]
    with_quotas = replayed(*QUOTAS)
    assert with_quotas.to_bytes() == IMAGES["image with quotas"]
    with_acls = replayed(*GROUPS, *TRANSACTIONS, *ACLS)
    assert with_acls.to_bytes() == IMAGES["image of version 5"]
    with_users = replayed(*GROUPS, *TRANSACTIONS, *ACLS, *USERS)
    assert with_users.to_bytes() == IMAGES["image of version 6"]
    versions = (
        (with_groups, "image of version 3"),
        (with_transactions, "image of version 4"),
        (with_acls, "image of version 5"),
        (with_quotas, "image with quotas"),
        (with_users, "image of version 6"),
    )
    for one, name in ((state, "image"), *versions):
        restored = MetadataState()
        restored.restore(IMAGES[name])
        assert restored.catalog == one.catalog and restored.digest() == one.digest()
