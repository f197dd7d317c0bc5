"""What becomes of what fails in a task: it is taken back, and the app's rule on errors is applied.

A record is processed as a whole or not at all. What time and commits bring is apart from it: each window that
closes, each call of a timer, and each change that is told stands for itself. It fails alone: the record in
hand, which has only moved the time, and the other windows are not touched.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from raftlog.client.record import Record as Read
from raftlog.streams.errors import RecordFailed, StreamsError, TimeFailed
from raftlog.streams.inputs import Row
from raftlog.streams.lookups import Question
from raftlog.streams.nodes import Node, Push
from raftlog.streams.outputs import Output, Unprocessable, dead_letter
from raftlog.streams.plan import changelog
from raftlog.streams.serdes import JSON, Serde
from raftlog.streams.stores import Store, Timed
from raftlog.streams.topology import App

NO_OFFSET: Final = -1
"""That of a row which was not read: a window's, a timer's, or a change's."""

Mark = tuple[int, int, list[int]]
"""How many outputs and questions there were, and how many changes of each store."""


class InHand(Protocol):
    """Where the task is: the record in hand, and its topic."""

    topic: str
    read: Row | None


class Failing:
    """The rule, for one task: its `outputs`, `questions`, what it has `dropped`, and the `stores` that note
    what has to be undone."""

    def __init__(
        self,
        app: App,
        place: tuple[int, int],
        outputs: list[Output],
        questions: deque[Question],
        dropped: Counter[str],
        stores: list[Store],
        *,
        asks: bool,
    ) -> None:
        self._app = app
        self._place = place
        self._outputs = outputs
        self._questions = questions
        self._dropped = dropped
        self._stores = stores
        self._asks = asks

    # -- what is taken back

    def take_back(self, outputs: int, questions: int) -> None:
        """Undo what the record in hand has changed, and what was sent and asked since there were so many
        outputs and questions."""
        del self._outputs[outputs:]
        while len(self._questions) > questions:
            self._questions.pop()
        for store in self._stores:
            store.undo()

    def _mark(self) -> Mark:
        changes = [len(store.undoable) for store in self._stores]
        return len(self._outputs), len(self._questions), changes

    def _take_back_to(self, mark: Mark) -> None:
        """Undo what came since: what was changed before is still to be undone with the record in hand."""
        outputs, questions, changes = mark
        before = [store.undoable[:count] for store, count in zip(self._stores, changes, strict=True)]
        for store, count in zip(self._stores, changes, strict=True):
            del store.undoable[:count]
        self.take_back(outputs, questions)
        for store, changed in zip(self._stores, before, strict=True):
            store.undoable.extend(changed)

    # -- the rule

    def failed(self, topic: str, read: Row | None, error: Exception) -> None:
        """Apply it, for a record of a topic. Raises RecordFailed, or TimeFailed for what is apart from all
        records."""
        if isinstance(error, TimeFailed):
            raise error
        app, partition = self._app, self._place[1]
        to_dlq = error.to_dlq if isinstance(error, Unprocessable) else app.dlq is not None
        is_told = isinstance(error, Unprocessable | StreamsError)
        reason = str(error) if is_told else f"{type(error).__name__}: {error}"
        if to_dlq and app.dlq is not None and read is not None:
            self._dropped["sent to the DLQ"] += 1
            self._outputs.append(dead_letter(app.dlq, Read(topic, partition, *read), error))
        elif app.on_error == "skip":
            self._dropped["failed"] += 1
        elif read is None or read[0] == NO_OFFSET:
            raise TimeFailed(
                f"task {self._place[0]}-{partition}: a window that closes, a timer, or what a commit tells "
                f"has failed: {reason}"
            ) from error
        else:
            raise RecordFailed(topic, partition, read[0], reason) from error

    # -- what stands for itself

    def window(
        self, hand: InHand, store: Timed, give: Callable[[int, Any], None]
    ) -> Callable[[int, Any], None]:
        """Give a window, or what waits in a join. As a dead letter it is what its changelog has of it."""
        topic, spec = changelog(self._app, store.spec), store.spec

        def row(time: int, key: Any) -> Row:
            value = _encoded(spec.value, store.get((time, key)))
            return NO_OFFSET, time, _encoded(spec.key, key), value, ()

        return lambda time, key: self._apart(hand, topic, row, give, time, key)

    def told(self, hand: InHand, node: Node, down: Push) -> Push:
        """Tell a change. Its dead letter is what was told, as JSON."""
        spec = node.stores[0]
        topic = changelog(self._app, spec)

        def row(key: Any, value: Any, timestamp: int) -> Row:
            return NO_OFFSET, timestamp, _encoded(spec.key, key), _encoded(JSON, value), ()

        def push(key: Any, value: Any, timestamp: int) -> None:
            mark = self._mark()
            try:
                down(key, value, timestamp)
            except Exception as error:
                self._take_back_to(mark)
                self.failed(topic, row(key, value, timestamp), error)

        if not self._asks:
            return push  # a commit may tell of very many
        return lambda key, value, timestamp: self._apart(hand, topic, row, down, key, value, timestamp)

    def timer(self, hand: InHand, node: Node, fire: Callable[[int], None]) -> Callable[[int], None]:
        """Call a timer. Its dead letter has the time that was due."""
        topic = changelog(self._app, node.stores[0])

        def row(at_ms: int) -> Row:
            return NO_OFFSET, at_ms, None, b"%d" % at_ms, ()

        return lambda at_ms: self._apart(hand, topic, row, fire, at_ms)

    def _apart(
        self, hand: InHand, topic: str, row: Callable[..., Row], run: Callable[..., None], *what: Any
    ) -> None:
        mark, before = self._mark(), (hand.topic, hand.read)
        hand.topic, hand.read = topic, row(*what) if self._asks else None
        try:
            run(*what)
        except Exception as error:
            self._take_back_to(mark)
            self.failed(topic, row(*what), error)
        finally:
            hand.topic, hand.read = before


def _encoded(serde: Serde, value: Any) -> bytes | None:
    try:
        return None if value is None else serde.encode(value)
    except Exception:  # maybe that is what has failed
        return None
