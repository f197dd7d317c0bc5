"""The metadata commands: what may be proposed to the metadata group, as bytes.

On the wire a command is CBOR: `[version, kind, {field: value}]`. Decoding is strict: an unknown kind or
field, a missing field or a value of another type is InvalidInput.
"""

from __future__ import annotations

from typing import Final

import cbor2

from raftlog.errors import InvalidInput
from raftlog.metadata import codec
from raftlog.metadata.catalog import METADATA_LEVEL, Catalog
from raftlog.metadata.noun import Command, Refusal, Refused
from raftlog.metadata.nouns import NOUNS
from raftlog.metadata.topics import COMPACTION_LEVEL

COMMAND_VERSION: Final = 1
"""The version of commands that this build writes."""

PROPOSED_BYTES_MAX: Final = 1024 * 1024
"""A command larger than this is not proposed. The largest there is a use for is a topic of 10,000 partitions
with their replicas, 300 kB."""

APPLIED_BYTES_MAX: Final = 8 * 1024 * 1024
"""A command larger than this is refused when it is applied, on every broker alike. Older builds proposed what
was larger than this."""

COMMANDS: Final[dict[str, type[Command]]] = {
    command.kind: command for noun in NOUNS for command in noun.commands
}

LEVEL_KNOWN: Final = max(COMPACTION_LEVEL, *(command.needs_level for command in COMMANDS.values()))
"""The metadata level that this build knows."""

RETIRED: Final = frozenset({"alter_broker_config"})
"""Kinds that older builds knew and that do nothing any more."""


class UnknownCommand(InvalidInput):
    """A command of a newer build. A broker must not go on without having applied it."""


def encode_command(command: Command) -> bytes:
    """The command as CBOR."""
    return cbor2.dumps([COMMAND_VERSION, command.kind, codec.to_plain(command)])


def decode_command(data: bytes | bytearray | memoryview) -> Command:
    """The command in `data`. Raises UnknownCommand for one of a newer build, and InvalidInput for anything
    else that is not exactly one well-formed command."""
    plain = codec.load(data, APPLIED_BYTES_MAX)
    if not isinstance(plain, list) or len(plain) != 3:
        raise InvalidInput("a metadata command is [version, kind, fields]")
    version, kind, fields = plain
    if type(version) is int and version > COMMAND_VERSION:
        raise UnknownCommand(f"metadata command version {version} is newer than {COMMAND_VERSION}")
    if version != COMMAND_VERSION or type(version) is not int or not isinstance(kind, str):
        raise InvalidInput(f"metadata command {str(kind)[:60]!r} of version {version!r}")
    if kind in RETIRED:
        raise InvalidInput(f"metadata command {kind!r} is not used any more")
    command = COMMANDS.get(kind)
    if command is None:
        raise UnknownCommand(f"unknown metadata command {kind[:60]!r}")
    if isinstance(fields, dict) and (unknown := codec.unknown_fields(command, fields)):
        raise UnknownCommand(f"metadata command {kind!r} has no field {unknown}")
    return codec.from_plain(command, fields)


# Limits stand before the proposal


def refused_before(command: Command, size: int, catalog: Catalog, *, is_full: bool) -> Refused | None:
    """What stands against proposing a command that has `size` bytes, encoded, at all; None when nothing does.
    `is_full`: the catalog has as many bytes as it may."""
    if (problem := _size_problem(size)) is not None:
        return Refused(Refusal.TOO_LARGE, problem)
    if is_full and command.grows:
        return Refused(Refusal.TOO_LARGE, f"the cluster's metadata takes no more {command.grows}")
    if (problem := command.no_room(catalog, size)) is not None:
        return Refused(Refusal.TOO_LARGE, problem)
    if command.takes_level > catalog.metadata_level:  # a broker of the cluster may not know the command yet
        needed, level = command.takes_level, catalog.metadata_level
        detail = f"{command.kind!r} takes {METADATA_LEVEL} {needed}, and the cluster has {level}"
        return Refused(Refusal.INVALID_VALUE, detail)
    return None


def encoded_problem(data: bytes | bytearray | memoryview, catalog: Catalog, *, is_full: bool) -> str | None:
    """As `refused_before`, of a command that somebody else has encoded."""
    if (problem := _size_problem(len(data))) is not None:
        return problem
    try:
        command = decode_command(data)
    except InvalidInput as error:
        return str(error)
    refused = refused_before(command, len(data), catalog, is_full=is_full)
    return None if refused is None else refused.detail


def _size_problem(size: int) -> str | None:
    if size <= PROPOSED_BYTES_MAX:
        return None
    return f"a change of {size} bytes, {PROPOSED_BYTES_MAX} is the most: ask for less at once"
