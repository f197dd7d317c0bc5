"""Flink takes over from an app of raftlog.streams at the very offset: no record is lost, or counted twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.foreign.commands import Flink
from tests.foreign.handing_over import Stopped, stopped


@pytest.mark.slow
@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_flink_goes_on_where_an_app_was(
    flink: Flink, bootstrap: str, name: Callable[[str], str], tmp_path: Path, guarantee: str
) -> None:
    """By the app's group, and by the offsets themselves."""
    left = stopped(bootstrap, name, tmp_path, guarantee)
    for start in ((), (by_offsets(left),)):
        left.assert_went_on(flink.run("GoesOn", bootstrap, left.app, left.topic, left.changelog, *start))


def by_offsets(left: Stopped) -> str:
    return ",".join(f"{partition}={offset}" for partition, offset in left.starts.items())
