"""The topics of an app: those that must be there, and its own, which are made when they are missing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from raftlog.client.admin import Admin
from raftlog.client.errors import UnknownTopic
from raftlog.client.metadata import TopicView
from raftlog.streams.counts import task_counts
from raftlog.streams.errors import TopologyError
from raftlog.streams.plan import Plan, changelog, changelog_settings

REPARTITION_SETTINGS = {"cleanup.policy": "delete", "retention.ms": "-1"}
"""Nothing goes by time: a part that was stopped for long finds all of it."""


@dataclass(frozen=True, slots=True)
class Topics:
    """What is there: the tasks of each part, and the id of each changelog."""

    counts: dict[int, int]
    changelog_ids: dict[str, str]


async def prepare(plan: Plan, admin: Admin) -> Topics:
    """Look at the topics that an app reads, and make its own. Raises TopologyError when one is missing, or
    when its own have other partitions than they need."""
    sources = {}
    for topic in plan.sources:
        sources[topic] = len((await _there(admin, topic)).partitions)
    counts = task_counts(plan, {**sources, **await _between(plan, admin)})
    wanted = {
        topic: (counts[plan.part_reading(topic).number], REPARTITION_SETTINGS) for topic in plan.repartitions
    }
    for part in plan.parts:
        for spec in part.stores:
            if spec.changelog and spec.source is None:
                wanted[changelog(plan.app, spec)] = counts[part.number], changelog_settings(spec)
    for topic, (count, settings) in wanted.items():
        await admin.create_topic(topic, partitions=count, configs=settings, exist_ok=True)
    views = await admin.describe_topics(list(wanted)) if wanted else {}
    for topic, (count, _) in wanted.items():
        if len(views[topic].partitions) != count:
            raise TopologyError(
                f"{topic} has {len(views[topic].partitions)} partitions, and {count} are needed: keys have "
                "moved since it was made. Stop the app, delete it, and begin anew: "
                f"raftlog topic delete {topic}"
            )
    outputs = {sink.topic for part in plan.parts for sink in part.sinks if not sink.repartition}
    for topic in outputs | ({plan.app.dlq} if plan.app.dlq else set()):
        await _there(admin, topic)
    return Topics(counts, {topic: view.topic_id.hex() for topic, view in views.items()})


async def _between(plan: Plan, admin: Admin) -> dict[str, int]:
    """The partitions of topics between parts that are there already, as far as those alone say how wide their
    reader is: when an input has grown, its keys are where they were behind such a topic."""
    found = {}
    for part in plan.parts:
        if all(source.internal for source in part.sources):
            for topic in part.topics:
                with suppress(UnknownTopic):
                    found[topic] = len((await admin.describe_topic(topic)).partitions)
    return found


async def _there(admin: Admin, topic: str) -> TopicView:
    try:
        return await admin.describe_topic(topic)
    except UnknownTopic as error:
        raise TopologyError(
            f"there is no topic {topic!r}: raftlog topic create {topic} --partitions 4"
        ) from error
