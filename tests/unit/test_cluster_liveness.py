"""Who is fenced, who is taken back, and who is given time."""

from dataclasses import replace

from raftlog.cluster.liveness import Liveness
from raftlog.metadata.brokers import FenceBroker
from raftlog.metadata.catalog import BrokerInfo
from raftlog.types import BrokerId

ONE = BrokerInfo(id=BrokerId(1), host="h", port=1, peer_host="h", peer_port=2, incarnation=b"a" * 16)


def commands(liveness: Liveness, broker: BrokerInfo, now: float) -> list[bool]:
    fences = liveness.tick({broker.id: broker}, now)
    assert all(
        fence == FenceBroker(broker_id=ONE.id, incarnation=ONE.incarnation, fenced=fence.fenced)
        for fence in fences
    )
    return [fence.fenced for fence in fences]


def test_a_new_leader_gives_everyone_a_session() -> None:
    liveness = Liveness(3.0)
    liveness.take_office()
    assert commands(liveness, ONE, 10.0) == []
    assert commands(liveness, ONE, 13.0) == []
    assert commands(liveness, ONE, 13.1) == [True]


def test_signs_of_life_keep_a_broker_and_silence_fences_it() -> None:
    liveness = Liveness(3.0)
    assert commands(liveness, ONE, 0.0) == []
    liveness.heard(ONE.id, ONE.incarnation, 5.0)
    assert commands(liveness, ONE, 8.0) == []
    assert commands(liveness, ONE, 8.1) == [True]


def test_a_fenced_broker_is_taken_back_when_it_speaks_and_not_before() -> None:
    liveness = Liveness(3.0)
    fenced = replace(ONE, fenced=True)
    assert commands(liveness, fenced, 1.0) == []
    liveness.heard(ONE.id, ONE.incarnation, 1.0)
    assert commands(liveness, fenced, 1.5) == [False]


def test_the_signs_of_another_start_do_not_count() -> None:
    liveness = Liveness(3.0)
    assert commands(liveness, ONE, 0.0) == []
    liveness.heard(ONE.id, b"b" * 16, 3.0)
    assert commands(liveness, ONE, 3.5) == [True]


def test_a_broker_that_started_again_has_a_session_of_its_own() -> None:
    liveness = Liveness(3.0)
    assert commands(liveness, ONE, 0.0) == []
    again = replace(ONE, incarnation=b"b" * 16)
    assert liveness.tick({ONE.id: again}, 10.0) == []


def test_a_fence_that_did_not_happen_is_wanted_again_and_a_silent_one_stays_fenced() -> None:
    liveness = Liveness(3.0)
    assert commands(liveness, ONE, 0.0) == []
    assert commands(liveness, ONE, 3.1) == [True]
    assert commands(liveness, ONE, 4.1) == [True]
    fenced = replace(ONE, fenced=True)
    assert commands(liveness, fenced, 5.1) == []
    liveness.heard(ONE.id, ONE.incarnation, 6.0)
    assert commands(liveness, fenced, 6.1) == [False]
