"""Following one record: it is produced by the broker that leads its partition, which watches itself
meanwhile."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from raftlog.dev.fleet import Fleet
from raftlog.dev.forward import Unanswered, ask
from raftlog.http.messages import Refusal, bad_request

TRACE_S: Final = 10.0


async def traced(fleet: Fleet, body: dict[str, Any]) -> Any:
    """Raises Refusal."""
    topic, partition = body.get("topic"), body.get("partition")
    if not isinstance(topic, str) or not (partition is None or isinstance(partition, int)):
        raise bad_request("a record is followed to a topic and a partition")
    number = partition or 0
    for broker in fleet.best():
        try:
            found = await ask(broker.address, f"/api/v1/topics/{quote(topic, safe='')}", within_s=TRACE_S)
            leader = next(row["leader"] for row in found["partitions"] if row["partition"] == number)
            address = fleet.broker(leader).address
            return await ask(
                address,
                "/api/v1/dev/trace",
                method="POST",
                body={**body, "partition": number},
                within_s=TRACE_S,
            )
        except (Unanswered, StopIteration) as error:
            raise Refusal(503, "BUSY", f"the record could not be followed: {error}") from error
    raise Refusal(503, "BUSY", "no broker is running")
