"""The fixtures of raftlog's own plugin, also where raftlog is on the path and not installed."""

from __future__ import annotations

from importlib.metadata import entry_points

PLUGIN = "raftlog.testing.pytest_plugin"

pytest_plugins = ["pytester"]
if not any(point.value == PLUGIN for point in entry_points(group="pytest11")):
    pytest_plugins.append(PLUGIN)
