"""The requests of a transactional producer: asked of the coordinator until they are done.

All of them may be asked twice, so that an answer that is lost costs a repetition. What an error means is
decided by `transactions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from raftlog.client.backoff import Backoff
from raftlog.client.cluster import GROUP, TRANSACTION, Cluster
from raftlog.client.commits import GroupMetadata
from raftlog.client.errors import BrokerError, ClientError, RebalanceNeeded, RequestTimedOut, broker_error
from raftlog.client.group_protocol import by_topic
from raftlog.client.metadata import TopicPartition
from raftlog.client.offsets import CommittedOffset, offsets_by_topic
from raftlog.client.settings import ProducerSettings
from raftlog.client.transactions import Phase, Reaction, Transactions
from raftlog.protocol.api import ApiKey
from raftlog.protocol.encode import Fields
from raftlog.protocol.errors import ErrorCode

VERSIONS_MAX: Final = {
    ApiKey.INIT_PRODUCER_ID: 5,
    ApiKey.ADD_PARTITIONS_TO_TXN: 3,
    ApiKey.ADD_OFFSETS_TO_TXN: 4,
    ApiKey.TXN_OFFSET_COMMIT: 4,
    ApiKey.END_TXN: 4,
}
"""The highest versions without the second part of KIP-890."""
COORDINATOR_PATIENCE_S: Final = 5.0
"""How long a coordinator may take; then it is looked up again, and asked again."""
PAUSE_MS: Final = 20.0
"""The first pause before a retry: mostly the markers of the transaction before are being written."""

_NOT_A_MEMBER: Final = frozenset(
    {
        ErrorCode.ILLEGAL_GENERATION,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.REBALANCE_IN_PROGRESS,
        ErrorCode.STALE_MEMBER_EPOCH,
    }
)


class TransactionRequests:
    """One producer's. Each raises RequestTimedOut after `max_block_ms`, and what `transactions` makes of a
    final error; cancelled, the request may have been carried out, or may be later."""

    def __init__(self, cluster: Cluster, settings: ProducerSettings, state: Transactions) -> None:
        self._cluster = cluster
        self._settings = settings
        self._state = state
        self._lane = cluster.connections.new_lane("transactions")
        self._where: dict[tuple[str, int], int] = {}

    def __repr__(self) -> str:
        return f"<TransactionRequests {self._state!r}>"

    def close(self) -> None:
        """Close the connections."""
        self._cluster.connections.close_lane(self._lane)

    async def identify(self) -> None:
        """Get a producer id, or with one the next epoch; whoever had the transactional id is fenced."""
        state = self._state
        fields = {**self._who(), "transaction_timeout": int(self._settings.transaction_timeout_ms)}
        answer = await self._ask(ApiKey.INIT_PRODUCER_ID, fields, _code_of)
        state.identified(int(answer.producer_id), int(answer.producer_epoch))

    async def add_partitions(self, keys: list[TopicPartition]) -> None:
        """Have partitions in the transaction. As long as it takes: deliveries have time-outs of their own."""
        fields = {
            **{f"v3_and_below_{name}": value for name, value in self._who().items()},
            "v3_and_below_topics": [
                {"name": topic, "partitions": numbers} for topic, numbers in by_topic(keys).items()
            ],
        }
        await self._ask(ApiKey.ADD_PARTITIONS_TO_TXN, fields, _code_of_partitions, seconds_max=float("inf"))

    async def add_group(self, group: str) -> None:
        """Have a group's offsets in the transaction."""
        await self._ask(ApiKey.ADD_OFFSETS_TO_TXN, {**self._who(), "group_id": group}, _code_of)

    async def commit_offsets(
        self, offsets: Mapping[TopicPartition, CommittedOffset], group: GroupMetadata
    ) -> None:
        """Have offsets pending in their group. Raises RebalanceNeeded when they are not the consumer's."""

        def fields_now() -> Fields:
            group.check(offsets)
            member = group.member
            return {
                **self._who(),
                "group_id": group.group,
                "generation_id": member.generation,
                "member_id": member.member_id,
                "group_instance_id": member.instance_id,
                "topics": offsets_by_topic(offsets),
            }

        try:
            await self._ask(
                ApiKey.TXN_OFFSET_COMMIT, fields_now, _code_of_offsets, where=(group.group, GROUP)
            )
        except BrokerError as error:
            if error.code in _NOT_A_MEMBER:
                raise RebalanceNeeded(f"offsets of group {group.group!r}: {error}") from error
            raise
        group.check(offsets)  # who has them by now may have begun before the offsets that are pending

    async def end(self) -> None:
        """Have the transaction committed or aborted, as its phase says."""
        state = self._state

        def code_of(answer: Any) -> int:
            code = int(answer.error_code)
            return ErrorCode.NONE if state.was_never_begun(ErrorCode.of(code)) else code

        fields = {**self._who(), "committed": state.phase is Phase.COMMITTING}
        await self._ask(ApiKey.END_TXN, fields, code_of)

    def _who(self) -> dict[str, Any]:
        state = self._state
        return {
            "transactional_id": state.transactional_id,
            "producer_id": state.producer_id,
            "producer_epoch": state.epoch,
        }

    async def _ask(
        self,
        api: ApiKey,
        fields: Fields | Callable[[], Fields],
        code_of: Callable[[Any], int],
        *,
        where: tuple[str, int] | None = None,
        seconds_max: float | None = None,
    ) -> Any:
        """Ask until it is done, the error is final, or the time is over. Gives the answer."""
        who = where or (self._state.transactional_id, TRANSACTION)
        what = f"{api.name.lower()} of {who[0]!r}"
        settings = self._cluster.settings
        seconds = self._settings.max_block_ms / 1000 if seconds_max is None else seconds_max
        backoff = Backoff(PAUSE_MS, settings.retry_backoff_max_ms, self._cluster.rng)
        last: ClientError | None = None
        with trio.move_on_after(seconds):
            while True:
                try:
                    answer = await self._ask_once(api, fields() if callable(fields) else fields, who)
                    code = code_of(answer)
                    if code == ErrorCode.NONE:
                        return answer
                    raise broker_error(code, what)
                except RebalanceNeeded:
                    raise
                except ClientError as error:
                    last = error
                    match self._state.react(api, error, trio.current_time()):
                        case Reaction.RETRY:
                            pass
                        case Reaction.FIND:
                            self._where.pop(who, None)
                        case Reaction.ABORT:
                            raise
                        case Reaction.FAIL:
                            raise self._state.fail(error, trio.current_time()) from error
                await trio.sleep(backoff.next())
        why = f" ({last})" if last else ""
        raise RequestTimedOut(f"{what}: no success within {seconds:g} s{why}") from last

    async def _ask_once(self, api: ApiKey, fields: Fields, who: tuple[str, int]) -> Any:
        coordinator = self._where.get(who)
        if coordinator is None:
            coordinator = self._where[who] = await self._cluster.coordinator(*who)
        is_answered = False
        try:
            answer = await self._cluster.ask(
                coordinator, api, fields,
                lane=self._lane, most=VERSIONS_MAX[api], patience_s=COORDINATOR_PATIENCE_S,
            )  # fmt: skip
            is_answered = True
        except RequestTimedOut:
            self._cluster.connections.drop(coordinator, self._lane)  # answers come in order, so none comes
            raise
        finally:
            if not is_answered:
                self._state.may_be_late(api)
        return answer


def _code_of(answer: Any) -> int:
    return int(answer.error_code)


def _code_of_partitions(answer: Any) -> int:
    """The first error that is a reason, and not only that another partition had one."""
    codes = [
        int(one.partition_error_code)
        for topic in answer.results_by_topic_v3_and_below
        for one in topic.results_by_partition
    ]
    wrong = [code for code in codes if code]
    return next((code for code in wrong if code != ErrorCode.OPERATION_NOT_ATTEMPTED), (wrong or [0])[0])


def _code_of_offsets(answer: Any) -> int:
    codes = [int(one.error_code) for topic in answer.topics for one in topic.partitions]
    return next((code for code in codes if code), 0)
