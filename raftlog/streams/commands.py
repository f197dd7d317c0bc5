"""Event sourcing: what is true of a key is what its events have made of it, and commands decide on more.

    accounts = app.aggregate("account-events", name="accounts", initial=Account, apply=Account.apply)

    @app.commands("account-commands", accounts, replies="account-replies")
    def handle(command, account, version):
        if command["amount"] > account.balance:
            return rs.Refused("balance")
        return [{"type": "withdrawn", "amount": command["amount"]}]

All commands of a key are decided by one task, one after the other: nothing comes between reading the state
and appending the events. State, events, reply and the command's offset are one transaction, so that a version
counts the events of a key that are in the log, without a gap, whatever dies in between.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol, cast

from raftlog.streams import serdes
from raftlog.streams.errors import TopologyError
from raftlog.streams.nodes import OUT, Downs, Edge, Node, Push, Room
from raftlog.streams.serdes import Serde
from raftlog.streams.stores import StoreSpec

EVENTS: Final = "events"


class Refused:
    """What a function given to `commands` returns when it appends nothing: why, and what else the reply is to
    say."""

    __slots__ = ("details", "reason")

    def __init__(self, reason: str, **details: Any) -> None:
        self.reason = reason
        self.details = details

    def __repr__(self) -> str:
        return f"<Refused {self.reason} {self.details}>"


class Versioned(NamedTuple):
    """What a store keeps of a key: how many events it has had, and what they have made."""

    version: int
    state: Any


@dataclasses.dataclass(eq=False)
class Entities:
    """What `App.aggregate` gives: the keys of a topic of events, each with its state."""

    app: Commanding
    topic: str
    value: Serde
    initial: Callable[[], Any]
    apply: Callable[[Any, Any], Any]
    spec: StoreSpec
    commands: str | None = None
    """The topic whose commands are decided here."""

    def __repr__(self) -> str:
        return f"<Entities {self.spec.name} of {self.topic}>"


Decide = Callable[[Any, Any, int], Iterable[Any] | Refused | None]


class Deciding(Node):
    """A command becomes events, or is refused; each has a reply."""

    kind = "commands"

    def __init__(self, parent: Edge, entities: Entities, decide: Decide) -> None:
        super().__init__(parent, stores=(entities.spec,))
        self.entities = entities
        self.decide = decide

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        reply, publish = downs[OUT], downs[EVENTS]
        decide, initial, apply = self.decide, self.entities.initial, self.entities.apply
        store, make = room.store(self.entities.spec.name), room.record

        def push(key: Any, command: Any, timestamp: int) -> None:
            if key is None:
                room.note_keyless("a command has no key")
                return
            kept = store.get(key)
            version, state = kept if kept is not None else (0, initial())
            decision = decide(command, state, version)
            read = make(key, command, timestamp)
            told = {"version": version, "command": [read.partition, read.offset]}
            if isinstance(decision, Refused):
                reply(key, {**decision.details, "refused": decision.reason, **told}, timestamp)
                return
            events = _events(decision)
            for event in events:
                state = apply(state, event)
                if state is None:
                    raise TypeError("apply gives the state after the event, and gave None")
                publish(key, event, timestamp)
            if events:
                store.set(key, Versioned(version + len(events), state), timestamp)
            reply(key, {**told, "version": version + len(events), "events": len(events)}, timestamp)

        return (push,)

    def describe(self) -> str:
        return f"commands of {self.entities.spec.name}"


def _events(decision: Any) -> list[Any]:
    if decision is None:
        return []
    if isinstance(decision, str | bytes | dict) or not isinstance(decision, Iterable):
        kind = type(decision).__name__
        raise TypeError(f"a command gives a list of events, or Refused(…), not a {kind}")
    return list(decision)


def _versioned(state: Serde) -> Serde:
    """JSON with a version beside what is JSON already: others can read the changelog."""

    def encode(value: Versioned) -> bytes:
        return b'{"version":%d,"state":%b}' % (value.version, state.encode(value.state))

    def decode(data: bytes) -> Versioned:
        found = json.loads(data)
        return Versioned(found["version"], state.decode(serdes.JSON.encode(found["state"])))

    return Serde(f"versioned {state.name}", encode, decode)


class _App(Protocol):
    """What its part here sees of an App."""

    guarantee: str

    def stream(self, topic: str, *, key: Serde, value: Serde) -> Any: ...
    def add(self, node: Node) -> Node: ...
    def _store(self, spec: StoreSpec) -> StoreSpec: ...


class Commanding:
    """The part of an App that is about aggregates."""

    def aggregate(
        self,
        topic: str,
        *,
        name: str,
        initial: Callable[[], Any],
        apply: Callable[[Any, Any], Any],
        key: Serde = serdes.TEXT,
        value: Serde = serdes.JSON,
        state: Serde | None = None,
    ) -> Entities:
        """What has events, by key: a key's state is what `apply(state, event)` makes of `initial()` and all
        of its events in `topic`, which `commands` decide on and nobody else writes. `value` is their serde.
        The state is kept in the store `name`, as JSON: by `state`, which is that of the dataclass when
        `initial` is one. It needs `guarantee="exactly_once"`."""
        app = cast(_App, self)
        if app.guarantee != "exactly_once":
            raise TopologyError(
                f"aggregate {name!r}: a command that is done twice would append its events twice:"
                ' App(…, guarantee="exactly_once")'
            )
        if state is None:
            is_dataclass = isinstance(initial, type) and dataclasses.is_dataclass(initial)
            state = serdes.dataclass(cast(Any, initial)) if is_dataclass else serdes.JSON
        shown = state

        def view(_: Any, kept: Versioned) -> dict[str, Any]:
            return {"version": kept.version, "state": json.loads(shown.encode(kept.state))}

        spec = app._store(StoreSpec(name=name, key=key, value=_versioned(state), view=view))
        return Entities(self, topic, value, initial, apply, spec)

    def commands(
        self,
        topic: str,
        entities: Entities,
        *,
        value: Serde = serdes.JSON,
        replies: str | None = None,
    ) -> Callable[[Decide], Any]:
        """A decorator: the function is called with a command of the topic, the state of its key, and how many
        events that has had; it gives a list of events, which are appended, or `Refused(reason, …)`. What is
        made is the stream of replies, which also go to the topic `replies`: for each command
        `{"version": …, "events": …, "command": [partition, offset]}`, or `"refused": reason` instead of
        `events`. The version is that after the command."""
        app = cast(_App, self)
        if entities.app is not self:
            raise TopologyError(f"{entities!r} is of another app")
        if entities.commands is not None:
            raise TopologyError(
                f"{entities!r} has its commands from {entities.commands!r}: those of a second topic would be"
                " decided beside them; write both into one"
            )
        entities.commands = topic

        def decorate(decide: Decide) -> Any:
            stream = app.stream(topic, key=entities.spec.key, value=value)
            node = app.add(Deciding(stream.edge, entities, decide))
            made = type(stream)
            made(app, Edge(node, EVENTS), stream.key, entities.value).to(entities.topic)
            told = made(app, Edge(node), stream.key, serdes.JSON)
            if replies is not None:
                told.to(replies)
            return told

        return decorate
