"""Clients that take and do not give: time, memory, connections, file descriptors.

These have brokers of their own, with limits that are small enough to be reached.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from raftlog.broker.admission import RESERVED
from raftlog.testing.processes import BrokerProcess, broker_process
from tests.badinput import requests
from tests.badinput.batches import batch, sized_batch
from tests.badinput.bystander import Bystander
from tests.badinput.conftest import MEMORY_GROWTH_MAX, Victim
from tests.badinput.wire import ANSWER_S, FETCH, METADATA, PRODUCE, Raw, framed, header, i32

IDLE_S = 1.5
MB = 1024 * 1024
LEADER_NOT_AVAILABLE = 5
TOPIC_COST_MAX = 40 * 1024
"""Bytes of memory that a topic with one partition, into which nothing is written, may take."""
LONG = (pytest.mark.slow, pytest.mark.long)


@contextmanager
def _victim(
    folder: Path, options: dict[str, object], *, open_files_max: int | None = None
) -> Iterator[Victim]:
    """A broker with its own options and bystander; at the end both must be well."""
    with broker_process(folder / "data", options=options, open_files_max=open_files_max) as broker:
        impatient = "connections.max.idle.ms" in options
        bystander = Bystander(broker.bootstrap, may_reconnect=impatient).start()
        try:
            yield Victim(broker, bystander, 0)
            bystander.check()
            assert broker.is_running, broker.log_tail()
        finally:
            bystander.stop()


def _until(what: str, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + ANSWER_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A broker that gives up on silent connections after IDLE_S."""
    options: dict[str, object] = {"connections.max.idle.ms": int(IDLE_S * 1000)}
    with _victim(tmp_path_factory.mktemp("impatient"), options) as victim:
        yield victim


def test_slowloris(impatient: Victim) -> None:
    """A byte now and then is no progress: of the frame, of its length, or at all."""
    connections = [impatient.connect() for _ in range(20)]
    request = framed(header(METADATA, 4) + requests.metadata_body() + bytes(50_000))
    began = time.monotonic()
    open_ones = set(range(20))
    position = 0
    while open_ones:
        assert time.monotonic() - began < ANSWER_S, f"{len(open_ones)} still drip"
        for number in list(open_ones):
            sock = connections[number].sock
            try:
                sock.send(request[position : position + 1])
                sock.settimeout(0.001)
                if not sock.recv(1):
                    open_ones.discard(number)
            except TimeoutError:
                pass
            except OSError:
                open_ones.discard(number)
        position += 1
        time.sleep(0.05)
    impatient.bystander.check()
    for raw in connections:
        raw.close()
    assert impatient.has_logged("nothing came or went")


def test_half_open_connections(impatient: Victim) -> None:
    """Clients that went away without a word, before or in the middle of a frame."""
    with ExitStack() as stack:
        gone = []
        for begin in (b"", b"\0", b"\0\0\x10\0", framed(bytes(1000))[:500]):
            raw = stack.enter_context(impatient.connect())
            raw.send(begin)
            gone.append(raw)
        for raw in gone:
            assert raw.wait_closed() == b""
    impatient.bystander.check()


def test_a_client_that_never_reads(impatient: Victim) -> None:
    """It asks for megabytes again and again: what waits for it is bounded, and then it is closed."""
    topic = impatient.topic()
    with impatient.connect() as raw:
        for _ in range(8):
            assert requests.produce(raw, topic, sized_batch(MB)).error == 0
    before, files = impatient.broker.memory_bytes(), _open_files(impatient.broker)
    body = requests.fetch_body(topic, 0, max_bytes=8 * MB, partition_max_bytes=8 * MB)
    ask = framed(header(FETCH, 11) + body)
    with ExitStack() as stack:
        greedy = [stack.enter_context(impatient.connect()) for _ in range(10)]
        for raw in greedy:
            raw.sock.settimeout(0.2)
            try:
                raw.sock.sendall(ask * 500)
            except OSError:
                pass  # full, or closed: both are what should happen
        assert impatient.broker.memory_bytes() - before < MEMORY_GROWTH_MAX
        impatient.bystander.check()
        # Whoever read now would only help it along.
        _until("they are closed", lambda: _open_files(impatient.broker) < files + 5)
    impatient.bystander.check()


def test_a_producer_that_never_reads(victim: Victim) -> None:
    """As many small requests as it can write; the broker stops reading from it."""
    topic = victim.topic()
    one = framed(header(PRODUCE, 7) + requests.produce_body(topic, batch()))
    with victim.connect() as raw:
        raw.sock.settimeout(0.3)
        sent = 0
        try:
            while sent < 20_000 * len(one):
                sent += raw.sock.send(one * 200)
        except TimeoutError:
            pass
        victim.bystander.check()


def test_large_frames_that_never_end(victim: Victim) -> None:
    """Sixty clients announce 4 MB each and send three: what is not there is not reserved."""
    before = victim.broker.memory_bytes()
    with ExitStack() as stack:
        for _ in range(60):
            raw = stack.enter_context(victim.connect())
            raw.send(i32(4_000_000) + header(PRODUCE, 7))
        victim.bystander.check()
        assert victim.broker.memory_bytes() - before < 40 * MB
        for _ in range(10):
            raw = stack.enter_context(victim.connect())
            raw.send(i32(4_000_000) + bytes(3_000_000))
        victim.bystander.check()


@pytest.mark.parametrize("count", [1000, pytest.param(5000, marks=LONG)])
def test_idle_connections(victim: Victim, count: int) -> None:
    before = victim.broker.memory_bytes()
    _allow_files(count + 1500)
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(victim.connect())
        with victim.connect() as raw:
            assert requests.metadata(raw, "none", create=False) == {"none": 3}
        victim.bystander.check()
        assert victim.broker.memory_bytes() - before < MEMORY_GROWTH_MAX
    _until("they are let go", lambda: _open_files(victim.broker) < 200)


def test_connections_that_come_and_go(victim: Victim) -> None:
    for number in range(1000):
        with victim.connect() as raw:
            if number % 3 == 0:
                raw.send(b"\0\0")
    victim.bystander.check()


@pytest.mark.slow
@pytest.mark.long
def test_two_hundred_connections_a_second_for_a_minute(victim: Victim) -> None:
    """Which are served, a request each; and so is everybody else."""
    before, began = victim.broker.memory_bytes(), time.monotonic()
    for number in range(200 * 60):
        time.sleep(max(0.0, began + number / 200 - time.monotonic()))
        with victim.connect() as raw:
            assert requests.metadata(raw, "none", create=False) == {"none": 3}
        if number % 1000 == 0:
            victim.bystander.check()
            assert victim.broker.memory_bytes() - before < MEMORY_GROWTH_MAX
    _until("they are let go", lambda: _open_files(victim.broker) < 200)


@pytest.mark.slow
@pytest.mark.long
def test_ten_thousand_topics(tmp_path: Path) -> None:
    """As many as somebody asks for, with the descriptors of a usual process: made or refused, and others are
    served. What there is takes memory, and this is the one test that may take more than the others."""
    with _victim(tmp_path, {}, open_files_max=1024) as victim, victim.connect() as raw:
        before, made = victim.broker.memory_bytes(), 0
        for first in range(0, 10_000, 100):
            errors = requests.metadata(raw, *(f"many-{number}" for number in range(first, first + 100)))
            made += sum(error in (0, LEADER_NOT_AVAILABLE) for error in errors.values())
            victim.bystander.check()
        grown = victim.broker.memory_bytes() - before
        assert grown < made * TOPIC_COST_MAX + MEMORY_GROWTH_MAX, (made, grown)
        assert _open_files(victim.broker) < 1024


def test_a_thousand_topics_are_not_the_end(victim: Victim) -> None:
    """A flood of topics of first use: in one request at most a hundred, the rest is asked for again."""
    names = [f"flood-{number}" for number in range(120)]
    with victim.connect() as raw:
        errors = requests.metadata(raw, *names)
        assert set(errors) == set(names)
        assert set(errors.values()) <= {0, 5}, errors
        assert set(requests.metadata(raw, *names).values()) == {0}


def test_more_connections_than_allowed(tmp_path: Path) -> None:
    with _victim(tmp_path, {"max.connections": 20}) as victim:
        with ExitStack() as stack:
            held = [stack.enter_context(victim.connect()) for _ in range(16 + RESERVED)]
            refused = 0
            for _ in range(10):
                raw = stack.enter_context(victim.connect())
                raw.sock.settimeout(1.5)
                try:
                    refused += raw.sock.recv(1) == b""
                except TimeoutError:
                    pass
                except ConnectionResetError:
                    refused += 1
            assert refused >= 8
            assert requests.metadata(held[0], "none", create=False)
            assert victim.has_logged("20 connections are open .max.connections.")
        _until("there is room again", lambda: _is_served(victim))


def test_few_file_descriptors(tmp_path: Path) -> None:
    """With `ulimit -n 128`: clients may take only so many that the log can still open files. Who is
    connected is served on; when others leave, new clients are."""
    with _victim(tmp_path, {}, open_files_max=128) as victim, ExitStack() as stack:
        served = stack.enter_context(victim.connect())
        topic = victim.topic()
        assert requests.produce(served, topic, batch()).error == 0
        crowd = [stack.enter_context(victim.connect()) for _ in range(200)]
        assert victim.has_logged("connections are open|not accepting for a moment")
        victim.bystander.check()
        for offset in range(1, 20):
            assert requests.produce(served, topic, batch()) == (0, offset)
        assert requests.fetch(served, topic, 0).high_watermark == 20
        for number in range(5):
            assert requests.create_topic(served, f"needs-files-{number}") == 0
            assert requests.produce(served, f"needs-files-{number}", batch()) == (0, 0)
        for raw in crowd:
            raw.close()
        _until("new clients are served", lambda: _is_served(victim))
        with victim.connect() as raw:
            assert requests.create_topic(raw, "after") == 0
            assert requests.produce(raw, "after", batch()) == (0, 0)


def _is_served(victim: Victim) -> bool:
    try:
        with Raw(victim.address) as raw:
            raw.sock.settimeout(5)
            return bool(requests.metadata(raw, "none", create=False))
    except OSError:
        return False


def _open_files(broker: BrokerProcess) -> int:
    return len(list(Path(f"/proc/{broker.pid}/fd").iterdir()))


def _allow_files(count: int) -> None:
    """Raise this process's own limit where it is too low for the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            pytest.skip(f"needs {count} file descriptors, {hard} are allowed (ulimit -n)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
