"""Spark takes over from an app of raftlog.streams at the very offset: no record is lost, or counted twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.foreign.commands import Spark
from tests.foreign.handing_over import stopped


@pytest.mark.slow
@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_spark_goes_on_where_an_app_was(
    spark: Spark, bootstrap: str, name: Callable[[str], str], tmp_path: Path, guarantee: str
) -> None:
    left = stopped(bootstrap, name, tmp_path, guarantee)
    starts = json.dumps({left.topic: left.starts})
    left.assert_went_on(
        spark.run("goes_on.py", bootstrap, left.topic, starts, left.changelog, tmp_path / "spark")
    )
