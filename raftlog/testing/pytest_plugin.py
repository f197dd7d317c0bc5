"""pytest fixtures with real brokers in them, for any client; loaded by pytest where raftlog is installed.

    def test_orders(raftlog_broker, raftlog_topic):
        producer = KafkaProducer(bootstrap_servers=raftlog_broker.bootstrap)
        producer.send(raftlog_topic, b"one apple").get()

    @pytest.mark.raftlog(num_partitions=3)         # a broker with settings of its own
    def test_more(raftlog_broker): ...

There is one broker for each set of settings that is asked for, and it lives as long as the run. When a test
fails, or is interrupted, its report has a section that shows the brokers that it used.

Every test run pays for the import of this module: it imports nothing of raftlog before a fixture is used.
Workers of pytest-xdist are processes of their own and each has its own brokers.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from raftlog.testing.cluster import EmbeddedCluster, Setting
    from raftlog.testing.security import Security

NAME_LENGTH_MAX: Final = 100
"""Of a test's name in a topic's; Kafka allows 249 characters in all."""
BROKERS_MAX: Final = 50
"""Sets of settings that one run may ask for: each is a broker that lives until the end."""
NODES_MAX: Final = 9
MARKER: Final = "raftlog"
SECTION: Final = "raftlog"

Brokers = Callable[..., "EmbeddedCluster"]
_Settings = Mapping[str, "Setting"]

_item = pytest.StashKey[pytest.Item]()
"""The test that is being set up: a fixture of the session is asked on behalf of one."""
_pool = pytest.StashKey["Pool"]()
_wanted = pytest.StashKey[tuple[object, object]]()


class Pool:
    """The brokers of a run, one for each set of settings."""

    def __init__(self, seed: int | None) -> None:
        self.brokers: dict[tuple[Security | None, tuple[tuple[str, str], ...]], EmbeddedCluster] = {}
        self._seed = seed
        self._open = ExitStack()

    def __repr__(self) -> str:
        return f"<Pool {list(self.brokers.values())}>"

    def get(self, settings: _Settings, security: Security | None = None) -> EmbeddedCluster:
        """The broker with these settings, which asks for logins or does not: started when it is asked
        for first. Raises ConfigError."""
        from raftlog.testing.cluster import EmbeddedCluster, dotted

        key = security, tuple(sorted(dotted(settings).items()))
        found = self.brokers.get(key)
        if found is None:
            if len(self.brokers) >= BROKERS_MAX:
                raise RuntimeError(f"more than {BROKERS_MAX} sets of settings: share some of the brokers")
            found = self._open.enter_context(
                EmbeddedCluster(1, seed=self._seed, settings=settings, security=security)
            )
            self.brokers[key] = found
        return found

    def close(self) -> None:
        """End all of them."""
        self._open.close()


# -- what pytest asks


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("raftlog").addoption(
        "--raftlog-seed",
        type=int,
        metavar="N",
        help="have random faults chosen as in the run that printed this seed",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(nodes=3, **settings): broker settings, Kafka's keys with underscores, for raftlog_broker"
        " and raftlog_cluster of this test, and how many brokers the latter has",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a marker that no broker would start with, before any test runs."""
    checked: set[str] = set()
    for item in items:
        for mark in item.iter_markers(MARKER):
            if repr(mark) not in checked:
                checked.add(repr(mark))
                _check_mark(item, mark)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have `raftlog_broker` asked for again when this test's settings are not those of the test before:
    pytest keeps it for the session, also where a folder below has other `raftlog_settings`."""
    item.config.stash[_item] = item
    found: Mapping[str, Any] = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    if "raftlog_broker" not in found:
        return
    settings = found["raftlog_settings"][-1] if "raftlog_settings" in found else None
    wanted = (settings, tuple(sorted(_marked(item).items())))
    if item.config.stash.get(_wanted, wanted) != wanted:
        found["raftlog_broker"][-1].finish(item._request)  # type: ignore[attr-defined]
    item.config.stash[_wanted] = wanted


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the brokers that a failed test used."""
    made = yield
    if made.failed and made.when != "teardown":
        for cluster in _used_by(item):
            made.sections.append((SECTION, cluster.report()))
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that hangs is interrupted by its user, who is shown why it may hang."""
    try:
        return (yield)
    except KeyboardInterrupt:
        capture: Any = item.config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
            for cluster in _used_by(item):
                print(f"\n--- {SECTION}, when {item.name} was interrupted ---\n{cluster.report()}")
        raise


# -- fixtures


@pytest.fixture(scope="session")
def raftlog_settings() -> Mapping[str, Setting]:
    """Broker settings for `raftlog_broker` and `raftlog_cluster`, by Kafka's keys; override it in a
    conftest.py, for the tests below it."""
    return {}


@pytest.fixture(scope="session")
def raftlog_security() -> Security | None:
    """Whether `raftlog_broker` and `raftlog_cluster` ask for logins: override it in a conftest.py and return
    "sasl_ssl"."""
    return None


@pytest.fixture(scope="session")
def raftlog_brokers(pytestconfig: pytest.Config) -> Iterator[Brokers]:
    """A function that gives a broker with the settings that it is called with, `raftlog_brokers(
    num_partitions=3)`: for fixtures of your own, of any scope. The same settings give the same broker."""
    pool = pytestconfig.stash[_pool] = Pool(pytestconfig.getoption("--raftlog-seed"))

    def broker(**settings: Setting) -> EmbeddedCluster:
        return pool.get(settings)

    yield broker
    pool.close()


@pytest.fixture(scope="session")
def raftlog_broker(
    raftlog_settings: Mapping[str, Setting],
    raftlog_security: Security | None,
    raftlog_brokers: Brokers,
    pytestconfig: pytest.Config,
) -> EmbeddedCluster:
    """A broker; `.bootstrap` is where clients find it. It is the same for all tests with the same settings:
    those of `raftlog_settings`, and over them those of the mark `raftlog`."""
    from raftlog.testing.cluster import dotted

    marked = _marked(pytestconfig.stash[_item])
    return pytestconfig.stash[_pool].get({**dotted(raftlog_settings), **dotted(marked)}, raftlog_security)


@pytest.fixture
def raftlog_cluster(
    raftlog_settings: Mapping[str, Setting],
    raftlog_security: Security | None,
    request: pytest.FixtureRequest,
) -> Iterator[EmbeddedCluster]:
    """Three brokers for one test, or as many as its mark says: it may do to them what it likes with
    `.faults`."""
    from raftlog.testing.cluster import EmbeddedCluster, dotted

    item = request.node
    settings = {**dotted(raftlog_settings), **dotted(_marked(item))}
    nodes = next((mark.kwargs["nodes"] for mark in item.iter_markers(MARKER) if "nodes" in mark.kwargs), 3)
    seed = request.config.getoption("--raftlog-seed")
    with EmbeddedCluster(nodes, seed=seed, settings=settings, security=raftlog_security) as cluster:
        yield cluster


@pytest.fixture
def raftlog_topic(raftlog_broker: EmbeddedCluster, request: pytest.FixtureRequest) -> str:
    """A topic of one partition on `raftlog_broker` that no other test has."""
    test = re.sub(r"[^A-Za-z0-9_-]+", "-", request.node.name)[:NAME_LENGTH_MAX].strip("-")
    return raftlog_broker.create_topic(f"{test}-{uuid.uuid4().hex[:8]}")


# -- marks


def _marked(item: pytest.Item) -> dict[str, Setting]:
    """The settings of a test's marks; the nearest one wins."""
    settings: dict[str, Setting] = {}
    for mark in reversed(list(item.iter_markers(MARKER))):
        settings |= {name: value for name, value in mark.kwargs.items() if name != "nodes"}
    return settings


def _check_mark(item: pytest.Item, mark: pytest.Mark) -> None:
    from raftlog.config import BrokerConfig
    from raftlog.errors import ConfigError
    from raftlog.testing.cluster import dotted

    nodes = mark.kwargs.get("nodes", 1)
    problem = None
    if mark.args:
        problem = f"it takes settings by name, as in {MARKER}(num_partitions=3), and not {mark.args[0]!r}"
    elif type(nodes) is not int or not 1 <= nodes <= NODES_MAX:
        problem = f"nodes = {nodes!r}: it must be 1 to {NODES_MAX}"
    else:
        try:
            BrokerConfig.of(dotted({name: value for name, value in mark.kwargs.items() if name != "nodes"}))
        except ConfigError as error:
            problem = str(error)
    if problem is not None:
        raise pytest.UsageError(f"{item.nodeid}: the mark {MARKER}: {problem}")


def _used_by(item: pytest.Item) -> list[EmbeddedCluster]:
    """The clusters among a test's fixtures that are open."""
    import sys

    module = sys.modules.get("raftlog.testing.cluster")
    if module is None:
        return []  # no fixture has started one
    values = getattr(item, "funcargs", {}).values()
    found = {id(one): one for one in values if isinstance(one, module.EmbeddedCluster) and one.is_open}
    return list(found.values())
