"""What `raftlog.streams` raises."""

from __future__ import annotations

from raftlog.client.errors import ClientError, ProducerFailed, ProducerFenced
from raftlog.errors import RaftlogError


class StreamsError(RaftlogError):
    """Anything that ends an app, or a call on one."""


def commits_no_more(worker: str, error: ProducerFailed) -> StreamsError:
    """What a worker ends with whose producer can do no more transactions."""
    if not isinstance(error, ProducerFenced):
        return StreamsError(f"worker {worker!r} can commit no more: {error}")
    if error.timed_out:
        return StreamsError(
            f"a commit of worker {worker!r} took so long that the brokers have aborted it, as when the "
            "machine sleeps: start the worker again, it goes on from the commit before"
        )
    return StreamsError(f"another worker called {worker!r} has taken over: give each a name of its own")


def refused_for_good(app: str, error: ClientError) -> StreamsError:
    """What a worker ends with whose outputs no broker takes, however often they are sent."""
    return StreamsError(
        f"app {app!r}: what it has written is refused, and would be each time: {error}. Have the topic take "
        "it (max.message.bytes, the rights of this user), or the app write something else; then start it "
        "again, it goes on from the last commit"
    )


class TopologyError(StreamsError):
    """The app is put together wrongly; the text says where, and what to write instead."""


class RecordFailed(StreamsError):
    """A record cannot be processed. All before it is committed; the same record comes first next time.

    The cause is `__cause__`; `topic`, `partition` and `offset` say which record it is.
    """

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        super().__init__(
            f"{topic}-{partition} at offset {offset}: {reason}. It comes first next time, too: an App with "
            'dlq= sets such records aside, with on_error="skip" it counts them and goes on'
        )
        self.topic = topic
        self.partition = partition
        self.offset = offset


class TimeFailed(StreamsError):
    """A window that closes, a timer, or what a commit tells has failed, and the app's rule is to end."""


class NotEncoded(StreamsError):
    """A serde does not take a key or a value; the text names the step or the store."""


class StateError(StreamsError):
    """The state on disk is of another app, or of a topology that this one does not go on from."""


class StateDamaged(StreamsError):
    """The state on disk cannot be read. It is made again from the changelogs."""
