"""Ports for brokers of tests."""

from __future__ import annotations

import itertools
import os

import pytest

from raftlog.testing.processes import free_port


def test_processes_side_by_side_give_different_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The port of a broker that is down for a moment was given to another process's broker."""
    given = []
    for process in range(5):
        monkeypatch.setattr(os, "getpid", lambda process=process: 70_001 + process)
        given.append({free_port() for _ in range(50)})
    ranges = sorted((min(ports), max(ports)) for ports in given)
    assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(ranges)), ranges
