"""Wrong arguments to every public call: refused where they are given, in words, and the client goes on.

The calls are found by looking at the classes, so a new one is tried as well. What is tried for a parameter is
whatever Hypothesis thinks of; an object that fits nothing must be refused by a TypeError that names it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, get_args, get_type_hints

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import raftlog
from raftlog import CommittedOffset, ConfigError, NewTopic, RaftlogError, RebalanceListener, TopicPartition
from raftlog.client.operations import Operations
from tests.memory.client_calls import KEY, OLD, World, world

EXAMPLES: dict[str, Any] = {
    "topic": "old", "value": b"v", "key": b"k", "partition": 0, "timestamp_ms": 1, "headers": {"h": b"v"},
    "max_records": 1, "max_wait_ms": 1, "offset": 0, "partitions": [OLD], "times_ms": {OLD: 1},
    "offsets": {OLD: 1}, "topics": "old", "pattern": "old", "group": "other", "name": "made",
    "replication_factor": 1, "configs": {"a": "b"}, "exist_ok": True, "validate_only": False,
    "names": ["gone"], "internal": True, "total": 1,
    "before": {OLD: 0}, "wanted": {OLD: -1}, "broker": 1, "targets": {OLD: [1]},
    "peer_address": "b9:9192", "draining": True, "listener": RebalanceListener(),
    "Admin.create_topic.partitions": 1, "Admin.create_topics.topics": [NewTopic(name="made")],
    "Admin.describe_configs.broker": None, "Admin.alter_configs.broker": None,
    "Consumer.subscribe.pattern": None, "Client.consumer.pattern": None, "Client.consumer.partitions": [],
    "key_serializer": None, "value_serializer": None, "key_deserializer": None, "value_deserializer": None,
    "timeout_ms": 1000, "expected_offset": None, "assignor": None,
    "records": [(b"k", b"v", 1)],
}  # fmt: skip
"""What is right, by the parameter's name or in full."""
FOR_EACH = {"seek_to_beginning", "seek_to_end", "seek_to_time", "pause", "resume", "beginning_offsets"}
REFUSED = (TypeError, ValueError, KeyError, RaftlogError, re.error, trio.TooSlowError)
SECONDS_MAX = 200
"""Virtual ones: the longest time-out that a call has by itself."""

OWNERS: dict[str, Callable[[World], Any]] = {
    "Client": lambda w: w.client,
    "Producer": lambda w: w.producer,
    "Consumer": lambda w: w.consumer,
    "Admin": lambda w: w.client.admin,
    "Operations": lambda w: w.client.admin.operations,
}
INTERNAL = {
    "Admin.ask_controller", "Admin.ask_broker", "Admin.retrying", "Consumer.running", "Producer.running",
}  # fmt: skip


def options_of(method: Callable[..., Any], parameter: inspect.Parameter) -> list[str]:
    """The keywords that a `**options: Unpack[…]` stands for."""
    (options,) = get_args(get_type_hints(method)[parameter.name])
    return list(get_type_hints(options))


def places() -> list[tuple[str, str]]:
    """Every public call with every parameter of it."""
    found = []
    for cls in (raftlog.Client, raftlog.Producer, raftlog.Consumer, raftlog.Admin, Operations):
        for name, method in vars(cls).items():
            call = f"{cls.__name__}.{name}"
            if name.startswith("_") or not inspect.isfunction(method) or call in INTERNAL:
                continue
            for parameter in list(inspect.signature(method).parameters.values())[1:]:
                if parameter.kind is parameter.VAR_KEYWORD:
                    found += [(call, option) for option in options_of(method, parameter)]
                else:
                    found.append((call, parameter.name))
    return found


PLACES = places()


def arguments_of(call: str, chosen: str, value: Any) -> tuple[list[Any], dict[str, Any]]:
    """Right arguments, but for the chosen one."""
    owner, _, name = call.partition(".")
    cls = {
        c.__name__: c for c in (raftlog.Client, raftlog.Producer, raftlog.Consumer, raftlog.Admin, Operations)
    }
    positional, named = [], {}
    for parameter in list(inspect.signature(getattr(cls[owner], name)).parameters.values())[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        example = EXAMPLES.get(f"{call}.{parameter.name}", EXAMPLES.get(parameter.name, inspect))
        assert example is not inspect, f"say in EXAMPLES what is right for {parameter.name}"
        if parameter.kind is parameter.VAR_POSITIONAL and isinstance(example, list):
            example = KEY  # one of its partitions
        example = value if parameter.name == chosen else example
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = example
        else:
            positional.append(example)
    if chosen not in inspect.signature(getattr(cls[owner], name)).parameters:
        named[chosen] = value
    return positional, named


async def made(w: World, call: str, chosen: str, value: Any) -> Any:
    """Make a call to its end."""
    owner, _, name = call.partition(".")
    positional, named = arguments_of(call, chosen, value)
    result = getattr(OWNERS[owner](w), name)(*positional, **named)
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, AbstractAsyncContextManager):
        async with result as entered:
            if isinstance(entered, raftlog.Producer):
                await entered.send("old", b"z")
            else:
                await entered.poll(1)
    return result


async def lives(w: World) -> None:
    """Whatever was done: the client makes new things, the producer sends, the consumer's tasks run."""
    with trio.fail_after(100):
        sent = await w.producer.send("t", b"after")
        async with w.client.consumer(partitions=[KEY]) as fresh:
            fresh.seek("t", 0, sent.offset)
            assert (await anext(fresh)).value == b"after"
        assert "t" in await w.client.admin.list_topics()
        w.consumer.assign(KEY) if not w.consumer.assignment else None
        w.consumer.statistics()


@asynccontextmanager
async def ready() -> AsyncIterator[World]:
    """A world whose consumer has its partition."""
    async with world() as w:
        await w.assigned()
        yield w


@pytest.mark.parametrize(("call", "chosen"), PLACES, ids=lambda part: str(part))
async def test_what_fits_nothing_is_refused_by_name(
    autojump_clock: MockClock, call: str, chosen: str
) -> None:
    is_option = call in ("Client.producer", "Client.consumer") and chosen not in EXAMPLES
    async with ready() as w:
        with trio.fail_after(1), pytest.raises(ConfigError if is_option else TypeError) as caught:
            await made(w, call, chosen, object())
        words = str(caught.value)
        assert chosen.replace("_", ".") in words.replace("_", ".")
        assert "must be" in words or "names Java code" in words
        await lives(w)


LONG = "stands for a text that is longer than the protocol takes"
TEXT = st.text(st.characters(), max_size=5).filter(lambda text: text != "t")
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**200), 2**200), st.floats(), TEXT,
    st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2), st.just(LONG),
    st.binary(max_size=3), st.just(object()), st.just(TopicPartition("t", 0)), st.just(len),
)  # fmt: skip
HASHABLE = st.one_of(st.none(), st.integers(-3, 3), st.floats(), TEXT, st.binary(max_size=2), st.just(KEY))
JUNK = st.one_of(
    PLAIN,
    st.lists(PLAIN, max_size=2),
    st.tuples(TEXT, PLAIN),
    st.lists(st.tuples(st.just("t"), PLAIN), max_size=2),
    st.dictionaries(HASHABLE, PLAIN, max_size=2),
    st.builds(NewTopic, name=PLAIN, partitions=PLAIN),
    st.builds(CommittedOffset, PLAIN, PLAIN, PLAIN),
    st.sets(HASHABLE, max_size=2),
)


@settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.generate],
)  # fmt: skip
@given(st.lists(st.tuples(st.sampled_from(PLACES), JUNK), min_size=8, max_size=16))
def test_whatever_is_given_the_client_lives(tries: list[tuple[tuple[str, str], Any]]) -> None:
    async def main() -> None:
        async with ready() as w:
            for (call, chosen), value in tries:
                waits_for_ever = chosen == "max_wait_ms" and call.startswith("Consumer")
                try:
                    with trio.fail_after(SECONDS_MAX) as scope:
                        await made(w, call, chosen, "x" * 40_000 if value is LONG else value)
                except REFUSED as error:
                    assert not scope.cancelled_caught or waits_for_ever, f"{call} hangs: {chosen}={value!r}"
                    assert str(error)
                await lives(w)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"value": "text"},
            "value must be bytes or None, not str: encode it, or give the producer a value_ser",
        ),
        (
            {"key": "text"},
            "key must be bytes or None, not str: encode it, or give the producer a key_serializer",
        ),
        ({"timestamp_ms": 1.5}, "timestamp_ms must be a whole number, not float 1.5"),
        ({"topic": b"t"}, "topic must be a string, not bytes"),
        ({"topic": None}, "topic must be a string, not NoneType"),
        ({"headers": {"h": "text"}}, "headers must be"),
        ({"headers": [("h",)]}, "headers must be"),
        ({"headers": 7}, "headers must be"),
        ({"partition": "0"}, "partition must be a whole number or None, not str"),
    ],
)
async def test_a_record_that_is_none(autojump_clock: MockClock, arguments: dict[str, Any], says: str) -> None:
    async with world() as w:
        with trio.fail_after(1), pytest.raises(TypeError, match=re.escape(says)):
            await w.producer.send(**{"topic": "t", **arguments})
        await w.producer.send("t", bytearray(b"bytes in another form"))
        await lives(w)


async def test_functions_of_the_users_that_give_what_they_should_not(autojump_clock: MockClock) -> None:
    async with world() as w:
        for options, says in (
            ({"value_serializer": str}, "value_serializer must give bytes or None, and gave str"),
            ({"key_serializer": str}, "key_serializer must give bytes or None, and gave str"),
            ({"partitioner": lambda *given: "0"}, "what the partitioner gives must be a whole number"),
        ):
            async with w.client.producer(**options) as producer:  # type: ignore[arg-type]
                with trio.fail_after(1), pytest.raises(TypeError, match=says):
                    await producer.send("t", b"1", key=b"1")
            await lives(w)


async def test_a_tombstone_reaches_no_serializer(autojump_clock: MockClock) -> None:
    async with (
        world() as w,
        w.client.producer(key_serializer=str.encode, value_serializer=str.encode) as producer,
    ):
        sent = await producer.send("old", None)
        assert w.cluster.logs[OLD].values[sent.offset] is None
