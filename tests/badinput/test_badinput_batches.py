"""Record batches that lie: each gets its error, and nothing of it is in the log."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Final

import cramjam
import pytest

from tests.badinput import requests
from tests.badinput.batches import (
    batch,
    gzip_bomb,
    message_set,
    record,
    records,
    sized_batch,
    zstd_bomb,
)
from tests.badinput.conftest import Victim
from tests.badinput.requests import produce_body
from tests.badinput.wire import PRODUCE, framed, header, i32, varint

CORRUPT_MESSAGE: Final = 2
MESSAGE_TOO_LARGE: Final = 10
INVALID_TIMESTAMP: Final = 32
UNSUPPORTED_FOR_MESSAGE_FORMAT: Final = 43
OUT_OF_ORDER_SEQUENCE: Final = 45
INVALID_PRODUCER_EPOCH: Final = 47
UNSUPPORTED_COMPRESSION: Final = 76
INVALID_RECORD: Final = 87

CODECS: Final = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
MESSAGE_MAX: Final = 1_048_588
FAR: Final = 10**15

WRONG: Final = {CORRUPT_MESSAGE, INVALID_RECORD, UNSUPPORTED_FOR_MESSAGE_FORMAT}
"""Apache Kafka chooses between these by where it notices. CORRUPT_MESSAGE is repeated by clients, so it is
only said of bytes that may arrive better the next time."""


def _packed(codec: str) -> bytes:
    """Five records, as one block of a codec."""
    packer = getattr(cramjam, codec)
    return bytes(packer.compress_raw(records(5)) if codec == "snappy" else packer.compress(records(5)))


BATCHES: Final[dict[str, tuple[Callable[[], bytes | None], set[int]]]] = {
    "null": (lambda: None, {INVALID_RECORD}),
    "empty": (lambda: b"", {INVALID_RECORD}),
    "one byte": (lambda: b"\0", {INVALID_RECORD}),
    "a header cut off": (lambda: batch()[:40], {INVALID_RECORD}),
    "a batch cut off": (lambda: batch()[:-1], {INVALID_RECORD}),
    "bad crc": (lambda: batch(crc=0xDEADBEEF), {CORRUPT_MESSAGE}),
    "a flipped bit": (lambda: batch()[:-3] + b"\x7f" + batch()[-2:], {CORRUPT_MESSAGE}),
    "magic 0": (lambda: batch(magic=0), WRONG),
    "magic 1": (lambda: batch(magic=1), WRONG),
    "magic 3": (lambda: batch(magic=3), WRONG),
    "magic -1": (lambda: batch(magic=-1), WRONG),
    "a true message of magic 0": (lambda: message_set(0), WRONG),
    "a true message of magic 1": (lambda: message_set(1), WRONG),
    "length 0": (lambda: batch(length=0), WRONG),
    "length -1": (lambda: batch(length=-1), WRONG),
    "length -2^31": (lambda: batch(length=-(2**31)), WRONG),
    "length 2^31-1": (lambda: batch(length=2**31 - 1), {INVALID_RECORD}),
    "length one short": (lambda: batch(length=len(batch()) - 13), WRONG),
    "length one long": (lambda: batch(length=len(batch()) - 11), {INVALID_RECORD}),
    "no records": (lambda: batch(b"", count=0, last_delta=0), {INVALID_RECORD}),
    "count 0 before a record": (lambda: batch(records(1), count=0, last_delta=0), {INVALID_RECORD}),
    "count -1": (lambda: batch(records(1), count=-1, last_delta=0), {INVALID_RECORD}),
    "one too many": (lambda: batch(records(2), count=3), {INVALID_RECORD}),
    "one too few": (lambda: batch(records(3), count=2), {INVALID_RECORD}),
    "count 2^31-1": (lambda: batch(records(1), count=2**31 - 1), {INVALID_RECORD}),
    "a last delta that skips": (lambda: batch(records(2), count=2, last_delta=9), {INVALID_RECORD}),
    "a last delta of -1": (lambda: batch(last_delta=-1), {INVALID_RECORD}),
    "two batches": (lambda: batch() + batch(), {INVALID_RECORD}),
    "a batch and rubbish": (lambda: batch() + b"rubbish", {INVALID_RECORD}),
    "control": (lambda: batch(attributes=0x20), {INVALID_RECORD}),
    "transactional": (lambda: batch(attributes=0x10), {INVALID_RECORD, UNSUPPORTED_FOR_MESSAGE_FORMAT}),
    "codec 5": (lambda: batch(attributes=5), WRONG | {UNSUPPORTED_COMPRESSION}),
    "codec 7": (lambda: batch(attributes=7), WRONG | {UNSUPPORTED_COMPRESSION}),
    "gzip that is not": (lambda: batch(b"\x1f\x8bnonsense", attributes=1), {INVALID_RECORD}),
    "snappy that is not": (lambda: batch(b"nonsense" * 4, attributes=2), {INVALID_RECORD}),
    "lz4 that is not": (lambda: batch(b"nonsense" * 4, attributes=3), {INVALID_RECORD}),
    "zstd that is not": (lambda: batch(b"nonsense" * 4, attributes=4), {INVALID_RECORD}),
    "snappy cut off": (lambda: batch(_packed("snappy")[:-9], count=5, attributes=2), {INVALID_RECORD}),
    "lz4 cut off": (lambda: batch(_packed("lz4")[:-9], count=5, attributes=3), {INVALID_RECORD}),
    "zstd cut off": (lambda: batch(_packed("zstd")[:-9], count=5, attributes=4), {INVALID_RECORD}),
    "gzip cut off": (lambda: batch(gzip.compress(records(5))[:-9], count=5, attributes=1), {INVALID_RECORD}),
    "one too many, in gzip": (
        lambda: batch(gzip.compress(records(2)), count=3, attributes=1),
        {INVALID_RECORD},
    ),
    "a record of length -1": (lambda: batch(record(length=-1)), {INVALID_RECORD}),
    "a record of length 2^31-1": (lambda: batch(record(length=2**31 - 1)), {INVALID_RECORD}),
    "a length of eleven bytes": (lambda: batch(b"\xff" * 11 + b"x" * 20), {INVALID_RECORD}),
    "a far timestamp": (lambda: batch(timestamp=FAR, max_timestamp=FAR), {INVALID_TIMESTAMP}),
    "a producer without a sequence": (lambda: batch(producer_id=5, producer_epoch=0), {INVALID_RECORD}),
    "a producer without an epoch": (lambda: batch(producer_id=5, base_sequence=0), {INVALID_RECORD}),
    "one byte over message.max.bytes": (lambda: sized_batch(MESSAGE_MAX + 1), {MESSAGE_TOO_LARGE}),
    "2^20 over message.max.bytes": (lambda: sized_batch(MESSAGE_MAX + 2**20), {MESSAGE_TOO_LARGE}),
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_that_lies(victim: Victim, name: str) -> None:
    make, codes = BATCHES[name]
    topic = victim.topic()
    with victim.connect() as raw:
        produced = requests.produce(raw, topic, make())
        assert produced.error in codes, produced
        assert requests.list_offsets(raw, topic, -1) == (0, 0), "something of it is in the log"
        # The next one, on the same connection, is none the worse for it.
        assert requests.produce(raw, topic, batch()) == (0, 0)
        assert requests.fetch(raw, topic, 0).high_watermark == 1


REASONS: Final = {
    "bad crc": "CORRUPT_MESSAGE, crc",
    "magic 1": "UNSUPPORTED_FOR_MESSAGE_FORMAT, .*magic 1",
    "one too many": "3 records",
    "one byte over message.max.bytes": "MESSAGE_TOO_LARGE, a batch of 1048589 bytes",
}


@pytest.mark.parametrize("name", REASONS)
def test_the_log_says_why_a_batch_was_refused(victim: Victim, name: str) -> None:
    make, _ = BATCHES[name]
    topic = victim.topic()
    with victim.connect() as raw:
        victim.assert_logs_why(
            lambda: requests.produce(raw, topic, make()), f"refused PRODUCE '{topic}-0' .*{REASONS[name]}"
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda: batch(record(None, None)),
        lambda: batch(record(b"", b"")),
        lambda: batch(records(500), count=500),
        lambda: batch(base_offset=10**12),
        lambda: batch(base_offset=-5),
        lambda: batch(timestamp=0, max_timestamp=0),
        lambda: sized_batch(MESSAGE_MAX),
        lambda: batch(gzip.compress(records(50)), count=50, attributes=1),
    ],
    ids=["nulls", "empty", "500", "base offset", "negative base offset", "1970", "just fits", "gzip"],
)
def test_a_batch_that_is_odd_and_fine(victim: Victim, make: Callable[[], bytes]) -> None:
    """The offset that a producer writes means nothing; the broker's own is served."""
    topic, data = victim.topic(), make()
    with victim.connect() as raw:
        assert requests.produce(raw, topic, data) == (0, 0)
        found = requests.fetch(raw, topic, 0, partition_max_bytes=2_000_000)
        assert found.error == 0
        assert found.records[:8] == bytes(8)
        assert found.records[16:] == data[16:], "it was changed outside of what the leader owns"


def test_lies_that_only_a_reader_of_records_can_see(victim: Victim) -> None:
    """Lengths inside a record: refused, or served as they are; the broker itself trusts none of them."""
    lies = [
        record(key_length=1000),
        record(value_length=2**31 - 1),
        record(key_length=-2),
        record(headers=varint(2**31 - 1)),
        record(headers=varint(-1)),
        record(headers=varint(1) + varint(100_000)),
        record(timestamp_delta=2**63 - 1),
        record(timestamp_delta=-(2**63)),
        record(offset_delta=2**31 - 1),
        record(offset_delta=-(2**31)),
    ]
    topic = victim.topic()
    with victim.connect() as raw:
        for lie in lies:
            assert requests.produce(raw, topic, batch(lie)).error in (0, *WRONG)
            # A look-up by time reads records.
            requests.list_offsets(raw, topic, 1)
        assert requests.produce(raw, topic, batch()).error == 0


@pytest.mark.parametrize("make", [gzip_bomb, zstd_bomb])
@pytest.mark.parametrize(("megabytes", "count"), [(150, 1), (200, 1000)])
def test_cve_2026_111073_a_decompression_bomb(
    victim: Victim, make: Callable[..., bytes], megabytes: int, count: int
) -> None:
    """A hundredth of it on the wire, or less. Whoever looks into it is bounded: here a look-up by time."""
    bomb = make(megabytes, count=count)
    assert len(bomb) < MESSAGE_MAX
    topic = victim.topic()
    with victim.connect() as raw:
        assert requests.produce(raw, topic, bomb).error in (0, *WRONG)
        requests.list_offsets(raw, topic, 1)
        requests.list_offsets(raw, topic, -3)
        assert requests.produce(raw, topic, batch()).error == 0


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_two_streams_one_behind_the_other(victim: Victim, codec: str) -> None:
    """Who takes the first for all finds fewer records than the batch says: refused, or read whole."""
    compress = getattr(cramjam, codec).compress
    halves = [record(offset_delta=number) for number in range(2)]
    data = batch(b"".join(bytes(compress(half)) for half in halves), count=2, attributes=CODECS[codec])
    topic = victim.topic()
    with victim.connect() as raw:
        produced = requests.produce(raw, topic, data)
        assert produced.error in (0, *WRONG)
        end = 0 if produced.error else 2
        assert requests.list_offsets(raw, topic, -1) == (0, end)
        assert requests.produce(raw, topic, batch()) == (0, end)


def test_cve_2023_34455_a_snappy_length_that_lies(victim: Victim) -> None:
    """snappy-java allocated what the first bytes of a block announce."""
    xerial = b"\x82SNAPPY\0" + (1).to_bytes(4, "big") * 2
    topic = victim.topic()
    with victim.connect() as raw:
        for payload in (
            b"\xff\xff\xff\xff\x07" + b"x" * 40,
            xerial + (2**31 - 1).to_bytes(4, "big") + b"x" * 40,
            xerial + (40).to_bytes(4, "big") + b"\xff\xff\xff\xff\x07" + b"x" * 35,
        ):
            assert requests.produce(raw, topic, batch(payload, attributes=2)).error in WRONG
            requests.list_offsets(raw, topic, 1)


# Idempotent producers.


def _idempotent(raw: object, topic: str, producer: int, epoch: int, sequence: int) -> requests.Produced:
    data = batch(producer_id=producer, producer_epoch=epoch, base_sequence=sequence)
    return requests.produce(raw, topic, data)  # type: ignore[arg-type]


def test_sequences_that_skip_or_repeat(victim: Victim) -> None:
    topic = victim.topic()
    with victim.connect() as raw:
        error, producer, epoch = requests.init_producer_id(raw)
        assert error == 0
        assert _idempotent(raw, topic, producer, epoch, 0) == (0, 0)
        assert _idempotent(raw, topic, producer, epoch, 1) == (0, 1)
        assert _idempotent(raw, topic, producer, epoch, 1) == (0, 1), "a repeat gets its first offset"
        assert _idempotent(raw, topic, producer, epoch, 3).error == OUT_OF_ORDER_SEQUENCE
        assert _idempotent(raw, topic, producer, epoch, 2**31 - 1).error == OUT_OF_ORDER_SEQUENCE
        assert _idempotent(raw, topic, producer, epoch, 2) == (0, 2)
        assert requests.list_offsets(raw, topic, -1) == (0, 3)


def test_an_epoch_that_goes_back(victim: Victim) -> None:
    topic = victim.topic()
    with victim.connect() as raw:
        _, producer, epoch = requests.init_producer_id(raw)
        assert _idempotent(raw, topic, producer, epoch + 2, 0) == (0, 0)
        assert _idempotent(raw, topic, producer, epoch + 1, 0).error == INVALID_PRODUCER_EPOCH
        assert _idempotent(raw, topic, producer, epoch + 3, 7).error == OUT_OF_ORDER_SEQUENCE
        assert _idempotent(raw, topic, producer, epoch + 3, 0) == (0, 1)


def test_sequences_wrap(victim: Victim) -> None:
    """After 2^31-1 comes 0 (KIP-98). A producer that nobody knows may begin anywhere."""
    topic = victim.topic()
    with victim.connect() as raw:
        _, producer, epoch = requests.init_producer_id(raw)
        assert _idempotent(raw, topic, producer, epoch, 2**31 - 1) == (0, 0)
        assert _idempotent(raw, topic, producer, epoch, 0) == (0, 1)


def test_a_topic_that_was_made_again_takes_a_producer_where_it_is(victim: Victim) -> None:
    """As Apache Kafka 4.1 does; out of sequence ends a producer for good."""
    topic = victim.topic()
    with victim.connect() as raw:
        _, producer, epoch = requests.init_producer_id(raw)
        for sequence in range(3):
            assert _idempotent(raw, topic, producer, epoch, sequence).error == 0
        assert requests.delete_topic(raw, topic) == 0
        assert requests.create_topic(raw, topic) == 0
        assert _idempotent(raw, topic, producer, epoch, 3) == (0, 0)
        assert _idempotent(raw, topic, producer, epoch, 3) == (0, 0), "a repeat"
        assert _idempotent(raw, topic, producer, epoch, 5).error == OUT_OF_ORDER_SEQUENCE
        assert _idempotent(raw, topic, producer, epoch, 4) == (0, 1)


def test_a_thousand_producers(victim: Victim) -> None:
    """Ids that nobody was given: taken, as Kafka takes them, and bounded in what they cost."""
    topic = victim.topic()
    with victim.connect() as raw:
        for producer in range(10**12, 10**12 + 1000):
            data = batch(producer_id=producer, producer_epoch=0, base_sequence=0)
            raw.send(framed(header(PRODUCE, 7, correlation=producer % 1000) + produce_body(topic, data)))
        assert [raw.receive()[:4] for _ in range(1000)] == [i32(n) for n in range(1000)]
        assert requests.list_offsets(raw, topic, -1) == (0, 1000)
