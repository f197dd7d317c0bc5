"""What /proc says of the brokers' processes, from samples of it and from this very process."""

from __future__ import annotations

import os
import socket

import pytest

from raftlog.cli.bench_processes import (
    cpu_between,
    cpu_seconds,
    cpu_ticks,
    is_local,
    listening_inodes,
    machine_seconds,
    machine_ticks,
    pids_listening,
)

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2384 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 101 1 0000 100 0 0 10 0
   1: 0100007F:2385 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 102 1 0000 100 0 0 10 0
   2: 0100007F:2384 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 103 1 0000 20 4 30 10 -1
   3: 0100007F:D431 0100007F:2384 01 00000000:00000000 00:00000000 00000000  1000        0 104 1 0000 20 4 30 10 -1
"""  # noqa: E501
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:2384 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 205 1 0000 100 0 0 10 0
"""  # noqa: E501


def test_only_sockets_that_listen_at_the_port_are_found() -> None:
    assert listening_inodes(TCP, [9092]) == {"101": 9092}
    assert listening_inodes(TCP, [9092, 9093, 9094]) == {"101": 9092, "102": 9093}
    assert listening_inodes(TCP6, {9092}) == {"205": 9092}
    assert listening_inodes(TCP, []) == listening_inodes("", [9092]) == {}
    assert listening_inodes(TCP + "  a line cut o", [1]) == {}


@pytest.mark.parametrize("command", ["java", "a b", "a) S 1 (", "x" * 15])
def test_cpu_is_user_and_system_time_whatever_the_command_is_called(command: str) -> None:
    fields = ["S", "1", *["0"] * 9, "250", "50", "99", "99", "20"]
    assert cpu_ticks(f"4711 ({command}) {' '.join(fields)}\n") == 300


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_loopback_is_here(host: str) -> None:
    assert is_local(host)


def test_elsewhere_is_not() -> None:
    assert not is_local("192.0.2.1")


def test_this_process_is_found_by_the_port_it_listens_at() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert pids_listening([port]) == [os.getpid()]
    assert pids_listening([port]) == []


def test_cpu_of_this_process_grows_and_that_of_none_is_left_out() -> None:
    none = 2**22 + 1  # above the highest pid there can be
    before = cpu_seconds([os.getpid(), none])
    assert list(before) == [os.getpid()]
    while cpu_seconds(before) == before:
        pass
    used = cpu_between(before, cpu_seconds(before))
    assert 0 < used[os.getpid()] < 60


def test_a_process_that_died_in_between_is_not_counted() -> None:
    assert cpu_between({1: 1.0, 2: 5.0}, {2: 7.5, 3: 1.0}) == {2: 2.5}


def test_the_machine_has_used_what_was_neither_idle_nor_waited() -> None:
    tick = os.sysconf("SC_CLK_TCK")
    line = f"cpu  {tick} {tick} {2 * tick} {10 * tick} {3 * tick} {tick} {tick} {tick} {tick} 0\ncpu0 1 2 3\n"
    assert machine_ticks(line) == (7.0, 20.0)


def test_this_machine_is_not_idle_while_it_runs_this() -> None:
    now = machine_seconds()
    if now is not None:
        assert 0 < now[0] <= now[1]
