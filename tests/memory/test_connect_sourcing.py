"""The loop of a source, without a log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence

import pytest
import trio
from trio.testing import MockClock

from raftlog.client.errors import BrokerError, CommitUnknown, ProducerFenced, TransactionAborted
from raftlog.connect import parse, sourcing
from raftlog.connect.contract import Batch, Position, Source, SourceRecord, Unit
from raftlog.connect.errors import ConnectError
from raftlog.connect.stdout import StdoutConfig
from raftlog.protocol.errors import ErrorCode


class Brief(Source):
    """Units of which each ends at once, and another comes."""

    Config = StdoutConfig

    def __init__(self) -> None:
        super().__init__(None, "it")
        self.read_units: list[int] = []

    async def units(self, stored: Mapping[Unit, Position]) -> Sequence[Unit]:
        return [Unit.of(n=len(self.read_units))]

    async def read(self, unit: Unit, position: Position | None) -> AsyncGenerator[Batch, None]:
        self.read_units.append(unit.partition["n"])
        for batch in ():
            yield batch


async def test_units_that_have_ended_are_not_counted_among_those_that_are_read(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sourcing, "UNITS_MAX", 2)
    (spec,) = parse({"connector": {"it": {"class": "generator", "topic": "t"}}}, "test")
    runner = sourcing.SourceRunner(spec, None, "positions", sourcing.Status())  # type: ignore[arg-type]
    source = runner._source = Brief()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner._keep_looking, nursery)
        await trio.sleep(5 * sourcing.UNITS_SECONDS + 0.1)
        nursery.cancel_scope.cancel()
    assert source.read_units == [0, 1, 2, 3, 4, 5]


async def test_a_commit_that_stays_unknown_is_told(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a reason, and not as a time-out without a name."""
    (spec,) = parse({"connector": {"it": {"class": "generator", "topic": "t"}}}, "test")
    runner = sourcing.SourceRunner(spec, None, "positions", sourcing.Status())  # type: ignore[arg-type]

    class Unknown:
        async def settle(self) -> None:
            raise CommitUnknown("the commit is unknown")

    with pytest.raises(ConnectError, match="the commit is unknown"):
        await runner._settle(Unknown())  # type: ignore[arg-type]


async def test_a_transaction_has_not_many_more_bytes_than_it_may(autojump_clock: MockClock) -> None:
    """Batches that are large are not written together: their transaction's time would be over."""
    (spec,) = parse({"connector": {"it": {"class": "generator", "topic": "t"}}}, "test")
    runner = sourcing.SourceRunner(spec, None, "positions", sourcing.Status())  # type: ignore[arg-type]
    runner._source = Brief()
    written: list[int] = []

    async def write(together: list[sourcing._Ready]) -> None:
        await trio.sleep(1)  # the others are ready meanwhile
        written.append(len(together))

    runner._write = write  # type: ignore[method-assign]
    record = SourceRecord("t", bytes(sourcing.TOGETHER_BYTES // 4))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner._keep_writing)
        async with trio.open_nursery() as several:
            for number in range(9):
                several.start_soon(runner._pass_on, Unit.of(n=number), Batch([record], {"n": number}))
        nursery.cancel_scope.cancel()
    assert sum(written) == 9 and max(written) == 4


@pytest.mark.parametrize("code", [ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.TOPIC_AUTHORIZATION_FAILED])
async def test_what_was_aborted_is_written_again_until_it_is_known_that_it_fails_again(
    autojump_clock: MockClock, code: ErrorCode
) -> None:
    """A worker that another had taken over from ended with what a partition said of its epoch, and not with
    what the coordinator says to its next transaction: that another runs the connector."""
    (spec,) = parse({"connector": {"it": {"class": "generator", "topic": "t"}}}, "test")
    runner = sourcing.SourceRunner(spec, None, "positions", sourcing.Status())  # type: ignore[arg-type]
    aborted = TransactionAborted("the transaction can only be aborted")
    aborted.__cause__ = BrokerError(code)
    ends = [aborted, ProducerFenced("another producer has taken the transactional_id")]

    async def write_once(together: list[sourcing._Ready]) -> None:
        raise ends.pop(0)

    runner._once, runner._write_once = True, write_once  # type: ignore[method-assign]
    if code is ErrorCode.INVALID_PRODUCER_EPOCH:
        with pytest.raises(ConnectError, match="another worker runs this connector"):
            await runner._write([])
    else:
        with pytest.raises(TransactionAborted):
            await runner._write([])
        assert len(ends) == 1


async def test_what_may_be_written_is_not_written_again(autojump_clock: MockClock) -> None:
    """The run does not know any more where it is: the next one finds out."""
    (spec,) = parse({"connector": {"it": {"class": "generator", "topic": "t"}}}, "test")
    runner = sourcing.SourceRunner(spec, None, "positions", sourcing.Status())  # type: ignore[arg-type]
    tries = []

    async def write_once(together: list[sourcing._Ready]) -> None:
        tries.append(together)
        raise CommitUnknown("the commit is unknown")

    runner._once, runner._write_once = True, write_once  # type: ignore[method-assign]
    with pytest.raises(CommitUnknown):
        await runner._write([])
    assert len(tries) == 1
