"""Random transactions on one partition, with power losses, snapshots and retention, against a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from raftlog.partition.marking import Marked
from tests.unit.test_partition import batch
from tests.unit.test_partition_transactions import TransactionalWorld

PRODUCERS = (5, 6, 7)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(PRODUCERS)),
        st.tuples(st.just("commit"), st.sampled_from(PRODUCERS)),
        st.tuples(st.just("abort"), st.sampled_from(PRODUCERS)),
        st.tuples(st.just("fence"), st.sampled_from(PRODUCERS)),
        st.tuples(st.just("late copy"), st.sampled_from(PRODUCERS)),
        st.tuples(st.sampled_from(["plain", "restart", "save", "checkpoint", "delete"]), st.just(0)),
    ),
    max_size=40,
)


@dataclass
class Producer:
    """What is known of one: its sequence goes on at the same epoch, and begins anew at a higher."""

    epoch: int = 0
    sequence: int = 0
    open: list[int] = field(default_factory=list)
    """The offsets of its open transaction."""
    last_decision: tuple[int, bool] | None = None


class Model:
    """Every record's offset and value, and what became of it."""

    def __init__(self) -> None:
        self.producers = {number: Producer() for number in PRODUCERS}
        self.values: dict[int, bytes] = {}
        self.aborted: set[int] = set()
        self.start = 0

    def stable(self, end: int) -> int:
        """Nothing of an open transaction lies before, and nothing else is held back."""
        first = min((p.open[0] for p in self.producers.values() if p.open), default=end)
        return max(first, self.start)

    def committed(self, end: int) -> list[bytes]:
        stable = self.stable(end)
        return [
            value
            for offset, value in sorted(self.values.items())
            if self.start <= offset < stable and offset not in self.aborted
        ]


@settings(max_examples=60, deadline=None)
@given(steps=steps, segment_bytes=st.sampled_from([200, 1 << 20]))
@example(steps=[("send", 5), ("send", 5), ("delete", 0), ("checkpoint", 0)], segment_bytes=200)
def test_what_readers_see_is_what_was_committed(steps: list[tuple[str, int]], segment_bytes: int) -> None:
    world, model = TransactionalWorld(), Model()
    highest = 0
    for number, (what, id_) in enumerate(steps):
        world.partition.log.retention.configure(segment_bytes=segment_bytes, roll_ms=1 << 40)
        _step(world, model, what, id_, b"%d" % number)
        end = world.partition.high_watermark
        assert world.stable == model.stable(end)
        assert world.stable >= highest, "it went back"
        highest = world.stable
        if what != "send":
            assert world.committed_values(max_bytes=1 if number % 2 else 1 << 20) == model.committed(end)
    marks = [world.partition.reading.fetch(model.start, 1 << 20, committed=True)]
    assert all(each.error is None for each in marks)


def _step(world: TransactionalWorld, model: Model, what: str, id_: int, value: bytes) -> None:
    match what:
        case "send":
            producer = model.producers[id_]
            (result,) = world.send(value, producer.sequence, producer=id_, epoch=producer.epoch)
            assert result.error is None, result
            producer.sequence += 1
            producer.open.append(result.base_offset)
            model.values[result.base_offset] = value
        case "commit" | "abort" | "fence":
            _end(world, model, what, id_)
        case "late copy":
            decision = model.producers[id_].last_decision
            if decision is not None:
                before = world.partition.high_watermark
                at, is_commit = decision
                epoch = model.producers[id_].epoch
                assert world.end(commit=is_commit, producer=id_, epoch=epoch, decided_at=at) == [Marked.DONE]
                assert world.partition.high_watermark == before
        case "plain":
            (result,) = world.produce(batch(value))
            model.values[result.base_offset] = value
        case "restart":
            world.restart()
        case "save":
            world.partition.save()
        case "checkpoint":
            world.turns()  # a checkpoint begins when nothing waits to be written
            job = world.store.begin_checkpoint()
            job.run()
            world.store.finish_checkpoint(job)
            world.turns()
        case "delete":
            to = (model.start + world.partition.high_watermark) // 2
            world.delete_before(to)
            world.partition.tick(1_700_000_000_000)
            model.start = to


def _end(world: TransactionalWorld, model: Model, what: str, id_: int) -> None:
    producer = model.producers[id_]
    if what == "fence":
        producer.epoch += 1
        producer.sequence = 0
    assert world.end(commit=what == "commit", producer=id_, epoch=producer.epoch) == [Marked.DONE]
    producer.last_decision = world.decisions, what == "commit"
    if what != "commit":
        model.aborted |= set(producer.open)
    producer.open.clear()
