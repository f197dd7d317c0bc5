"""Options as Kafka Connect's REST has them: what becomes of them, and which field a mistake belongs to."""

from __future__ import annotations

import pytest

from raftlog.connect import flat
from raftlog.errors import ConfigError

SINK = {"connector.class": "sqlite-sink", "topics": "a,b", "path": "w.db"}


def test_flat_options_become_a_connector() -> None:
    spec = flat.parse(
        "it",
        {
            **SINK,
            "name": "it",
            "tasks.max": "4",
            "batch_records": "7",
            "errors.tolerance": "all",
            "errors.deadletterqueue.topic.name": "dead",
            "transforms": "one, two",
            "transforms.two.type": "key",
            "transforms.two.field": "other",
            "transforms.one.type": "key",
            "transforms.one.field": "id",
        },
    )
    assert (spec.kind, spec.config.path, spec.errors.dlq, spec.errors.tolerance) == (
        "sqlite-sink",
        "w.db",
        "dead",
        "all",
    )
    assert len(spec.transforms) == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({}, None),
        ({"connector.class": "nothing"}, "connector.class"),
        ({"color": "red"}, "color"),
        ({"batch_records": "many"}, "batch_records"),
        ({"batch_records": "0"}, "batch_records"),
        ({"topics": ""}, "topics"),
        ({"path": ""}, "path"),
        ({"new_fields": "perhaps"}, "new_fields"),
        ({"errors.tolerance": "some"}, "errors.tolerance"),
        ({"errors.color": "red"}, "errors.color"),
        ({"transforms.x.type": "key"}, "transforms.x.type"),
    ],
)
def test_a_mistake_belongs_to_its_field(change: dict[str, str], field: str | None) -> None:
    found = flat.mistake("it", {**SINK, **change})
    assert (None if found is None else found[0]) == field, found
    if field is not None:
        with pytest.raises(ConfigError):
            flat.parse("it", {**SINK, **change})


def test_what_is_missing_belongs_to_its_field() -> None:
    for name, field in (("path", "path"), ("topics", "topics"), ("connector.class", "connector.class")):
        found = flat.mistake("", {key: value for key, value in SINK.items() if key != name})
        assert found is not None and found[0] == field, found
