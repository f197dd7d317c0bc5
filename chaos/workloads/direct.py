"""A client that asks one broker and no other. Kafka's clients look for the leader, and so they soon leave one
that was cut off: what it would still acknowledge is asked here."""

from __future__ import annotations

import itertools
import struct
from typing import Final

from chaos.access import Access
from chaos.history import History, Outcome, Send
from chaos.values import value_of
from tests.badinput.batches import batch, record
from tests.badinput.wire import PRODUCE, Reader, array, i16, i32, string

VERSION: Final = 3
ALL: Final = -1
TIMEOUT_MS: Final = 1_000
NONE, NOT_LEADER, TIMED_OUT, TOO_FEW_REPLICAS = 0, 6, 7, 19
SURELY_NOT: Final = (NOT_LEADER, TOO_FEW_REPLICAS)
NAME: Final = "direct"

_numbers = itertools.count()


def produce(history: History, access: Access, address: str, topic: str, partition: int) -> Outcome:
    """Ask the broker at `address` to write one record to a partition that it may lead or not. What becomes of
    it is entered as of every other record."""
    value = f"{NAME}:{next(_numbers)}"
    send = history.begin(Send(client=NAME, log=topic, partition=partition, value=value))
    data = batch(record(value_of(value)))
    records = i32(partition) + i32(len(data)) + data
    body = string(None) + i16(ALL) + i32(TIMEOUT_MS) + array([string(topic) + array([records])])
    try:
        with access.connect(address) as raw:
            answer = Reader(raw.ask(PRODUCE, VERSION, body))
    except (OSError, struct.error) as error:
        history.end(send, Outcome.UNKNOWN, repr(error))
        return send.outcome
    assert (answer.i32(), answer.string(), answer.i32(), answer.i32()) == (1, topic, 1, partition)
    code, offset = answer.i16(), answer.i64()
    if code == NONE:
        send.offset = offset
        history.end(send, Outcome.OK)
    elif code in SURELY_NOT:
        history.end(send, Outcome.FAILED, f"error {code}")
    else:
        history.end(send, Outcome.UNKNOWN, "timed out" if code == TIMED_OUT else f"error {code}")
    return send.outcome
