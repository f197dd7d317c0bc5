"""The fixtures of raftlog's own plugin, also where raftlog is on the path and not installed; and in which
order tests run, and how many at once."""

from __future__ import annotations

import gc
import inspect
import os
import signal
from collections.abc import Generator
from importlib.metadata import entry_points

import pytest
from trio.abc import Clock

from tests import leftovers

PLUGIN = "raftlog.testing.pytest_plugin"

gc.disable()  # until all tests are collected: till then nothing is garbage

pytest_plugins = ["pytester"]
if not any(point.value == PLUGIN for point in entry_points(group="pytest11")):
    pytest_plugins.append(PLUGIN)


def pytest_configure() -> None:
    """A run in the background has these ignored, and so would every broker that a test sends them to."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)  # when fixtures are made
def pytest_runtest_setup(item: pytest.Item) -> None:
    """pytest-trio runs a test by the clock that the test itself asks for, and not by one of its fixtures."""
    own = inspect.signature(item.function).parameters if isinstance(item, pytest.Function) else {}
    clocks = {name for name, value in getattr(item, "funcargs", {}).items() if isinstance(value, Clock)}
    unseen = sorted(clocks - set(own))
    assert not unseen, f"{item.nodeid} waits by the wall's clock: {unseen} must be an argument of its own"


@pytest.hookimpl(optionalhook=True)  # also without xdist
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: more than there are cores, since tests that start processes wait most of the time."""
    return (os.cpu_count() or 1) * 5 // 2


def pytest_collection_finish() -> None:
    """All tests, and what they import, stay: the collector need not look at them again and again."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Each worker begins with other files of a folder. In a fresh checkout pytest rewrites the assertions of
    each file, which takes longer than to read it: who comes second finds it done."""
    report = yield
    if isinstance(collector, pytest.Directory) and report.passed:
        given = getattr(collector.config, "workerinput", {"workerid": "gw0", "workercount": 1})
        start = len(report.result) * int(given["workerid"].removeprefix("gw")) // given["workercount"]
        report.result[:] = report.result[start:] + report.result[:start]
    return report


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long begins first, so that no worker is left with it at the end. Tests that share what their
    file or folder has started, such as brokers or a browser, run in one worker: it is started once."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: str(item.path))  # the same order in each
    for item in items:
        if item.get_closest_marker("xdist_group") is None and (group := _group_of(item)) is not None:
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("slow", "xdist_group")])


def _group_of(item: pytest.Item) -> str | None:
    """The folder or the file whose tests share something, by the scopes of the fixtures."""
    found = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    collecting = leftovers.collect_leftovers.__name__  # a name here would have it run after every file
    scopes = {made[-1].scope for name, made in found.items() if name != collecting}
    file = item.nodeid.partition("::")[0]
    if "package" in scopes:
        return file.rpartition("/")[0]
    return file if "module" in scopes else None
