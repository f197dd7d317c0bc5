"""The coordinator of groups is killed: its groups go on with the next one, and nobody joins again."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from raftlog.metadata.groups import StoreGroup
from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode
from tests.cluster.create import create
from tests.cluster.members import KINDS, SESSION_MS, Watched
from tests.cluster.raw import RawClient, coordinator_of
from tests.secured import ClusterProcesses
from tests.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # the clients' own
]

PARTITIONS = 4
CALM_S = 2.0


def keeps_groups(client: RawClient) -> bool:
    """Whether every broker has said that it knows how to."""
    software = {"client_software_name": "raw", "client_software_version": "1"}
    answer = client.ask(ApiKey.API_VERSIONS, 3, software)
    return bool(answer.finalized_features_epoch >= StoreGroup.needs_level)


def share(members: list[Watched]) -> bool:
    """Whether the members of a group have every partition, each one owner."""
    for member in members:
        member.check()
    owned = [number for member in members for number in member.assigned]
    return sorted(owned) == list(range(PARTITIONS)) and all(member.assigned for member in members)


def everyone_commits(members: list[Watched]) -> None:
    since = time.monotonic()
    for member in members:

        def has_committed(member: Watched = member) -> bool:
            member.check()
            return member.committed_at > since

        try:
            until("a member commits", has_committed)
        except AssertionError as error:
            raise AssertionError(f"{error}: {member}") from None


@pytest.mark.long
def test_no_member_joins_again_when_the_coordinator_is_killed(tmp_path: Path) -> None:
    options = {"group.initial.rebalance.delay.ms": 0}
    with ClusterProcesses(tmp_path, options=options).start() as cluster, ExitStack() as stack:
        with RawClient(cluster.brokers[1]) as client:
            assert create(client, "t", PARTITIONS, 3) is ErrorCode.NONE
            until("groups can be kept", lambda: keeps_groups(client))
            coordinator = coordinator_of(client, "g")
        groups: list[list[Watched]] = []
        for kind in KINDS:
            for is_static in (False, True):
                name = f"{kind.__name__}-{'static' if is_static else 'dynamic'}"
                instances = [f"{name}-{number}" if is_static else None for number in range(2)]
                groups.append([kind(cluster.bootstrap, "t", name, instance) for instance in instances])
        everyone = [member for group in groups for member in group]
        for member in everyone:
            member.start()
            stack.callback(member.end)
        for group in groups:
            until(f"{group} share", lambda group=group: share(group))  # type: ignore[misc]
        everyone_commits(everyone)
        time.sleep(CALM_S)
        before = {member: (list(member.events), member.identity, member.assigned) for member in everyone}
        assert all(share(group) for group in groups)
        cluster.brokers[coordinator].kill()
        everyone_commits(everyone)
        time.sleep(SESSION_MS / 1000)  # who was not heard would be gone by then
        everyone_commits(everyone)
        cluster.brokers[coordinator].start()
        with RawClient(cluster.brokers[coordinator]) as client:
            until("another coordinates", lambda: coordinator_of(client, "g") not in (-1, coordinator))
            assert cluster.brokers[coordinator_of(client, "g")].stop() == 0
        everyone_commits(everyone)
        for member in everyone:
            assert (member.events, member.identity, member.assigned) == before[member], (
                member,
                member.refused,
            )
        for member in everyone:
            member.stopping.set()
        for member in everyone:
            member.stop()


def test_offsets_are_fetched_from_any_broker_as_they_were_committed(tmp_path: Path) -> None:
    """librdkafka does not ask again after NOT_COORDINATOR: its member would heartbeat, and read nothing."""
    with ClusterProcesses(tmp_path).start() as cluster, ExitStack() as stack:
        clients = {id: stack.enter_context(RawClient(broker)) for id, broker in cluster.brokers.items()}
        assert create(clients[1], "t", 1, 3) is ErrorCode.NONE
        coordinator = coordinator_of(clients[1], "g")
        for offset in range(20):
            row = {"partition_index": 0, "committed_offset": offset, "committed_metadata": ""}
            commit = {
                "group_id": "g",
                "generation_id_or_member_epoch": -1,
                "member_id": "",
                "topics": [{"name": "t", "partitions": [row]}],
            }
            committed = clients[coordinator].ask(ApiKey.OFFSET_COMMIT, 7, commit)
            assert committed.topics[0].partitions[0].error_code == ErrorCode.NONE
            for id, client in clients.items():
                wanted = {"group_id": "g", "topics": [{"name": "t", "partition_indexes": [0]}]}
                fetched = client.ask(ApiKey.OFFSET_FETCH, 8, {"groups": [wanted]})
                (group,) = fetched.groups
                assert group.error_code == ErrorCode.NONE, id
                assert group.topics[0].partitions[0].committed_offset == offset, id
