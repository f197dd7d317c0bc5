"""What clients send in a transaction, and what becomes of them when a step of it is refused.

The broker is behind a meddler that refuses one request. A letter says how the client took it: R repeats by
itself, so that nothing is seen; A lets the transaction fail, and goes on with the next; F is of no use any
more. The rules for what raftlog answers (`broker/errors.py`) come from this table, which was made with Apache
Kafka 4.1 first. Here it is held for what raftlog answers when something may still happen, and for the rest
with `RAFTLOG_TEST_ERRORS=all`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Final

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode
from raftlog.testing.processes import BrokerProcess
from tests import secured
from tests.compat.clients.base import PATIENCE_S
from tests.compat.meddler import Meddler
from tests.compat.transactional import PRODUCERS, Transactional

pytestmark = pytest.mark.filterwarnings("default")  # the clients' own

INIT, ADD, ADD_GROUP = ApiKey.INIT_PRODUCER_ID, ApiKey.ADD_PARTITIONS_TO_TXN, ApiKey.ADD_OFFSETS_TO_TXN
END, OFFSETS, PRODUCE = ApiKey.END_TXN, ApiKey.TXN_OFFSET_COMMIT, ApiKey.PRODUCE
CLIENTS: Final = ("confluent-kafka", "kafka-python", "aiokafka")

Row = tuple[ApiKey, str]

ANSWERED: Final[dict[Row, str]] = {
    (INIT, "COORDINATOR_NOT_AVAILABLE"): "RRR",
    (ADD, "COORDINATOR_NOT_AVAILABLE"): "RRR",
    (ADD_GROUP, "COORDINATOR_NOT_AVAILABLE"): "RRR",
    (END, "COORDINATOR_NOT_AVAILABLE"): "RRR",
    (END, "NOT_COORDINATOR"): "RRR",
    (OFFSETS, "COORDINATOR_NOT_AVAILABLE"): "RRR",
    (INIT, "CONCURRENT_TRANSACTIONS"): "RRR",
    (ADD, "CONCURRENT_TRANSACTIONS"): "RRR",
    (PRODUCE, "NOT_ENOUGH_REPLICAS"): "RRR",
    (PRODUCE, "NOT_LEADER_OR_FOLLOWER"): "RRR",
}
"""What raftlog answers when something may still happen; a letter for each client."""
REST: Final[dict[Row, str]] = {
    (OFFSETS, "ILLEGAL_GENERATION"): "AAF",
    (INIT, "COORDINATOR_LOAD_IN_PROGRESS"): "RRR",
    (INIT, "NOT_COORDINATOR"): "RRR",
    (ADD, "COORDINATOR_LOAD_IN_PROGRESS"): "RRR",
    (ADD, "NOT_COORDINATOR"): "RRR",
    (ADD_GROUP, "COORDINATOR_LOAD_IN_PROGRESS"): "RRR",
    (ADD_GROUP, "NOT_COORDINATOR"): "RRR",
    (END, "COORDINATOR_LOAD_IN_PROGRESS"): "RRR",
    (OFFSETS, "COORDINATOR_LOAD_IN_PROGRESS"): "RRR",
    (OFFSETS, "NOT_COORDINATOR"): "RRR",
    (ADD_GROUP, "CONCURRENT_TRANSACTIONS"): "RRR",
    (END, "CONCURRENT_TRANSACTIONS"): "RRR",
    (OFFSETS, "CONCURRENT_TRANSACTIONS"): "RRF",
    (INIT, "PRODUCER_FENCED"): "FFF",
    (ADD, "PRODUCER_FENCED"): "FFF",
    (ADD_GROUP, "PRODUCER_FENCED"): "AFF",
    (END, "PRODUCER_FENCED"): "FFF",
    (INIT, "INVALID_TRANSACTION_TIMEOUT"): "FFF",
    (ADD, "UNKNOWN_TOPIC_OR_PARTITION"): "RRR",
    (ADD, "INVALID_TXN_STATE"): "FFF",
    (ADD, "INVALID_PRODUCER_ID_MAPPING"): "AFF",
    (ADD, "POLICY_VIOLATION"): "AAF",
    (ADD, "REQUEST_TIMED_OUT"): "ARF",
    (END, "REQUEST_TIMED_OUT"): "ARF",
    (END, "INVALID_TXN_STATE"): "FFF",
    (END, "INVALID_PRODUCER_ID_MAPPING"): "AFF",
    (PRODUCE, "REQUEST_TIMED_OUT"): "RRR",
    (PRODUCE, "INVALID_PRODUCER_EPOCH"): "FFF",
    (PRODUCE, "INVALID_TXN_STATE"): "FFF",
    (PRODUCE, "INVALID_PRODUCER_ID_MAPPING"): "FFF",
    (PRODUCE, "OUT_OF_ORDER_SEQUENCE_NUMBER"): "FFF",
    (PRODUCE, "INVALID_RECORD"): "FFF",
    (OFFSETS, "UNKNOWN_MEMBER_ID"): "AAF",
    (OFFSETS, "FENCED_INSTANCE_ID"): "AAF",
    (OFFSETS, "INVALID_PRODUCER_EPOCH"): "FFF",
    (OFFSETS, "INVALID_TXN_STATE"): "FFF",
    (OFFSETS, "INVALID_PRODUCER_ID_MAPPING"): "FFF",
    (OFFSETS, "REBALANCE_IN_PROGRESS"): "AFF",
    (OFFSETS, "REQUEST_TIMED_OUT"): "RRR",
    (OFFSETS, "UNKNOWN_TOPIC_OR_PARTITION"): "RRR",
}
"""What it answers to who lies or is fenced, and what it does not answer."""
ROWS: Final = ANSWERED | (REST if os.environ.get("RAFTLOG_TEST_ERRORS") == "all" else {})

SENT: Final = {
    "confluent-kafka": {INIT: 4, ADD: 0, PRODUCE: 10, ADD_GROUP: 0, OFFSETS: 3, END: 1},
    "kafka-python": {INIT: 4, ADD: 3, PRODUCE: 9, ADD_GROUP: 3, OFFSETS: 3, END: 3},
    "aiokafka": {INIT: 0, ADD: 0, PRODUCE: 7, ADD_GROUP: 0, OFFSETS: 0, END: 0},
}
"""The version of each request of a transaction, while more is offered."""


@pytest.fixture(scope="module")
def meddler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meddler]:
    meddler = Meddler()
    secured.leave_plain(meddler.bootstrap)
    told = {"advertised.listeners": f"PLAINTEXT://{meddler.bootstrap}"}
    broker = BrokerProcess(tmp_path_factory.mktemp("meddled") / "broker", options=told)
    broker.start()
    meddler.broker_port = broker.port
    admin = AdminClient({"bootstrap.servers": meddler.bootstrap, "log_level": 0})
    for made in admin.create_topics([NewTopic("t", 1, 1)]).values():
        made.result(PATIENCE_S)
    yield meddler
    meddler.close()
    broker.stop()


def transaction(producer: Transactional) -> None:
    producer.begin()
    producer.send("t", b"x")
    producer.send_offset("t", 1, "g")
    producer.commit()


def letter(meddler: Meddler, client: str, api: ApiKey, code: ErrorCode) -> str:
    """How a client takes it that the next request of an API is refused."""
    producer = PRODUCERS[client](meddler.bootstrap, uuid.uuid4().hex)
    try:
        if api is INIT:
            meddler.refuse(api, code)
        try:
            producer.init()
            if api is not INIT:
                meddler.refuse(api, code)
            transaction(producer)
        except Exception:
            try:
                producer.abort()
                transaction(producer)
            except Exception:
                return "F"
            return "A"
        return "R" if meddler.has_refused else "-"
    finally:
        meddler.forget()
        try:
            producer.close()
        except Exception:
            pass


@pytest.mark.parametrize("client", CLIENTS)
def test_what_a_client_sends(meddler: Meddler, client: str) -> None:
    meddler.sent.clear()
    producer = PRODUCERS[client](meddler.bootstrap, uuid.uuid4().hex)
    producer.init()
    transaction(producer)
    producer.close()
    assert {api: meddler.sent[api] for api in SENT[client]} == {
        api: {version} for api, version in SENT[client].items()
    }


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("api", "code"), ROWS, ids=lambda each: getattr(each, "name", each))
def test_how_a_client_takes_a_refusal(meddler: Meddler, client: str, api: ApiKey, code: str) -> None:
    assert letter(meddler, client, api, ErrorCode[code]) == ROWS[api, code][CLIENTS.index(client)]
