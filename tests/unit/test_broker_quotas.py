"""What a client may take, and how long it pauses: pure, with a clock of numbers."""

from __future__ import annotations

import pytest

from raftlog.broker.quotas import BURST_S, MEASURES_MAX, MUTATIONS_BURST_S, PAUSE_MAX_S, Bucket, ClientQuotas
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.quota_table import Entity
from raftlog.metadata.quotas import (
    CONNECTION,
    FETCH,
    MUTATION,
    PRODUCE,
    REQUEST,
    AlterQuotas,
    QuotaChange,
    change_problem,
)
from raftlog.types import RaftIndex


def with_quotas(**quotas: tuple[Entity, str, str]) -> Catalog:
    catalog = Catalog()
    for index, (entity, key, value) in enumerate(quotas.values(), 1):
        change = QuotaChange(entity=entity, values={key: value})
        assert change_problem(change) is None
        AlterQuotas(changes=(change,)).apply(catalog, RaftIndex(index))
    return catalog


def test_a_rate_holds_over_half_a_minute() -> None:
    """Scenario 55: a client that obeys nothing but its pauses gets 1 MB/s, and a tenth more at most."""
    bucket, now = Bucket(BURST_S), 0.0
    sent: list[tuple[float, int]] = []
    while now < 60:
        bucket.take(100_000, 1_000_000, now)
        sent.append((now, 100_000))
        now += 0.001 + min(bucket.wait_s(1_000_000, now), PAUSE_MAX_S)
    for first in (0, 11, 25):
        total = sum(size for at, size in sent if first <= at < first + 30)
        assert 900_000 <= total / 30 <= 1_100_000, (first, total / 30)


def test_a_bucket_takes_a_burst_and_then_the_rate() -> None:
    bucket = Bucket(MUTATIONS_BURST_S)
    for _ in range(110):
        assert bucket.wait_s(10, 0.0) == 0
        bucket.take(1, 10, 0.0)
    bucket.take(5, 10, 0.0)
    assert bucket.wait_s(10, 0.0) == pytest.approx(0.5)
    assert bucket.wait_s(10, 0.6) == 0


def test_the_most_specific_quota_is_a_clients_and_a_default_is_each_ones_own() -> None:
    """Kafka's order of precedence (KIP-55)."""
    entities: list[Entity] = [
        (("client-id", None),),
        (("client-id", "c"),),
        (("user", None),),
        (("client-id", None), ("user", None)),
        (("client-id", "c"), ("user", None)),
        (("user", "u"),),
        (("client-id", None), ("user", "u")),
        (("client-id", "c"), ("user", "u")),
    ]
    catalog = Catalog()
    for number, entity in enumerate(entities, 1):
        AlterQuotas(changes=(QuotaChange(entity=entity, values={FETCH: str(number)}),)).apply(
            catalog, RaftIndex(number)
        )
        found = catalog.quotas.for_client(FETCH, "u", "c")
        assert found is not None and found[1] == number, entity
        assert all(name is not None for _, name in found[0])
    other = catalog.quotas.for_client(FETCH, "v", "d")
    assert other is not None and other == ((("client-id", "d"), ("user", "v")), 4)


def test_a_client_id_that_changes_leaves_the_users_quota_alone_and_the_table_bounded() -> None:
    """Scenario 57."""
    quotas = ClientQuotas(with_quotas(user=((("user", "u"),), PRODUCE, "1000")))
    pauses = [quotas.produced("u", f"client-{number}", 10, 0.0) for number in range(2000)]
    assert pauses[0] == 0 and pauses[-1] == pytest.approx(10.0)
    each = ClientQuotas(with_quotas(each=((("client-id", None),), PRODUCE, "1000")))
    for number in range(MEASURES_MAX + 100):
        each.produced("u", f"client-{number}", 10, 0.0)
    assert len(each._buckets) == MEASURES_MAX == len(each._known)


def test_a_quota_that_changes_counts_at_once() -> None:
    catalog = with_quotas(user=((("user", "u"),), PRODUCE, "1000"))
    quotas = ClientQuotas(catalog)
    assert quotas.produced("u", "c", 4_000, 0.0) == pytest.approx(2.0)
    AlterQuotas(changes=(QuotaChange(entity=(("user", "u"),), values={PRODUCE: "100000"}),)).apply(
        catalog, RaftIndex(9)
    )
    assert quotas.produced("u", "c", 10, 0.1) == 0
    AlterQuotas(changes=(QuotaChange(entity=(("user", "u"),), values={PRODUCE: ""}),)).apply(
        catalog, RaftIndex(10)
    )
    assert not quotas.are_set


def test_other_measures() -> None:
    quotas = ClientQuotas(
        with_quotas(
            time=((("user", "u"),), REQUEST, "50"),
            changes=((("user", "u"),), MUTATION, "1"),
            addresses=((("ip", None),), CONNECTION, "2"),
        )
    )
    assert quotas.spent("u", "c", 1.0, 0.0) == 0  # 100 % of a second, of 50 % for two
    assert quotas.spent("u", "c", 1.0, 0.0) == 1.0  # Kafka's bound
    assert quotas.mutated("u", "c", 13, 0.0) == pytest.approx(2.0)
    assert quotas.mutation_wait_s("u", "c", 0.0) == pytest.approx(2.0)
    assert quotas.mutation_wait_s("v", "c", 0.0) == 0
    waits = [quotas.connected("10.0.0.1", 0.0) for _ in range(6)]
    assert waits[:4] == [0] * 4 and waits[5] == pytest.approx(1.0)
    assert quotas.connected("10.0.0.2", 0.0) == 0


@pytest.mark.parametrize(
    ("entity", "values"),
    [
        ((), {}),
        ((("group", "g"),), {}),
        ((("ip", "1.2.3.4"), ("user", "u")), {}),
        ((("user", "u"), ("client-id", "c")), {}),
        ((("user", ""),), {}),
        ((("user", "x" * 1025),), {}),
        ((("user", "u"),), {"speed": "1"}),
        ((("user", "u"),), {CONNECTION: "1"}),
        ((("ip", None),), {PRODUCE: "1"}),
        *[((("user", "u"),), {PRODUCE: text}) for text in ("0", "-1", "nan", "inf", "many")],
    ],
)
def test_what_is_no_quota_is_refused(entity: Entity, values: dict[str, str]) -> None:
    assert change_problem(QuotaChange(entity=entity, values=values)) is not None
