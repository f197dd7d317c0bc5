"""What the registry decides, upon a log that takes everything."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from raftlog.registry import registry as module
from raftlog.registry.formats import Source
from raftlog.registry.reader import Reader
from raftlog.registry.records import INT32_MAX, Entry, Reference, Schema, decode, encode
from raftlog.registry.refusals import Refused
from raftlog.registry.registry import Registry
from raftlog.registry.state import State
from raftlog.registry.topic import SchemasTopic
from tests.waiting import until


class Log:
    """`SchemasTopic`, without brokers: each entry goes through its bytes."""

    def __init__(self) -> None:
        self.state = State()
        self.is_deciding = False

    async def catch_up(self) -> None:
        pass

    async def change(self, decide: Callable[[Any], Awaitable[Any]]) -> Any:
        async def commit(entries: list[Entry]) -> None:
            for entry in entries:
                self.state.apply(decode(*encode(entry)))

        self.is_deciding = True
        try:
            return await decide(commit)
        finally:
            self.is_deciding = False


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    reader = Reader()
    yield Registry(cast(SchemasTopic, Log()), reader)
    await reader.aclose()


async def register(
    registry: Registry, subject: str, text: str = '"int"', *references: Reference, **import_as: int | None
) -> Any:
    numbers = {"id": None, "number": None, **import_as}
    return await registry.register(subject, Schema("AVRO", text, references), normalize=False, **numbers)


async def test_the_memory_is_bounded_by_all_that_is_kept(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, references and settings as well as texts: of one short schema there may be any number."""
    monkeypatch.setattr(module, "SIZE_MAX", 10_000)
    base = (await register(registry, "base")).number
    many = [Reference(f"name-{number}", "base", base) for number in range(20)]
    for fill in (
        lambda name: register(registry, name),
        lambda name: register(registry, name, '"long"', *many),
        lambda name: registry.set_level(name, "FULL", None),
        lambda name: registry.set_mode(name, "READONLY", force=False),
    ):
        before = registry.state.size
        with pytest.raises(Refused, match="keeps 10000"):
            for number in range(30):
                await fill(f"subject-{number}-{'x' * 100}")
        for subject in registry.state.subjects():
            if subject != "base":
                await registry.delete_subject(subject, permanent=False)
                await registry.delete_subject(subject, permanent=True)
        for subject in list(registry.state.levels):
            await registry.unset_level(subject)
        for subject in list(registry.state.modes):
            await registry.unset_mode(subject)
        assert registry.state.size == before, "what goes leaves its room"


async def test_a_schema_refers_to_so_many_at_most(registry: Registry) -> None:
    await register(registry, "base")
    same = [Reference("name", "base", 1)] * 10_000
    with pytest.raises(Refused, match="more than 256"):
        await register(registry, "s", '"long"', *same)


async def test_a_number_that_no_record_has_is_not_given(registry: Registry) -> None:
    await registry.set_mode("s", "IMPORT", force=False)
    await register(registry, "s", id=7, number=INT32_MAX)
    with pytest.raises(Refused, match="no numbers"):
        await register(registry, "s", '"long"', id=8)
    await registry.unset_mode("s")
    with pytest.raises(Refused, match="no numbers"):
        await register(registry, "s", '"long"')


@pytest.mark.parametrize("subject", ["", "\ud800", "x" * 2000])
async def test_settings_are_of_subjects_that_there_may_be(registry: Registry, subject: str) -> None:
    for setting in (
        registry.set_level(subject, "FULL", None),
        registry.set_mode(subject, "READONLY", force=False),
    ):
        with pytest.raises(Refused) as refused:
            await setting
        assert refused.value.code == "42208"


async def test_schemas_are_compared_while_others_may_write(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn to write is not held for as long as a comparison with every version takes."""
    log, exchange = cast(Any, registry)._topic, Reader._exchange
    asked: list[tuple[bool, str]] = []

    async def watched(self: Reader, question: bytes) -> dict[str, Any]:
        asked.append((log.is_deciding, json.loads(question)["do"]))
        return await exchange(self, question)

    monkeypatch.setattr(Reader, "_exchange", watched)
    await registry.set_level("s", "FULL_TRANSITIVE", None)
    for number in range(4):
        await register(registry, "s", json.dumps({"type": "int", "number": number}))
    assert [what for _, what in asked].count("objections") == 2 * (1 + 2 + 3)
    assert not any(is_deciding for is_deciding, _ in asked)


async def test_a_process_that_is_killed_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    reader = Reader()
    many = "".join(f"message M{number} {{ int64 x = 1; }}\n" for number in range(30_000))
    source = Source(f'syntax = "proto3";\n{many}')
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(reader.canonical, "PROTOBUF", source, normalize=False))
        await trio.to_thread.run_sync(
            until, "the compiler is at work", lambda: list(tmp_path.rglob("schema.proto"))
        )
        nursery.cancel_scope.cancel()
    await reader.aclose()
    assert os.listdir(tmp_path) == []
