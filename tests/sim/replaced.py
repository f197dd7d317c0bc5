"""What names of `raftlog.cluster` stand for while a simulation runs."""

from __future__ import annotations

import pkgutil
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from types import ModuleType
from typing import Final

import trio

import raftlog.cluster
from raftlog.cluster import node
from tests.sim.virtual_trio import VirtualTrio

CLUSTER: Final = [
    import_module(module.name)
    for module in pkgutil.walk_packages(raftlog.cluster.__path__, "raftlog.cluster.")
]


class _Runner:
    """The broker of the simulation takes the turns."""

    def __init__(self, *parts: object) -> None:
        pass

    async def run(self) -> None:
        pass


class _TrioHere:
    """The simulation's Trio in the thread that simulates, the real one in every other: a test's broker may be
    running in a thread of this process."""

    def __init__(self, virtual: VirtualTrio) -> None:
        self._virtual = virtual
        self._thread = threading.get_ident()

    def __getattr__(self, name: str) -> object:
        return getattr(self._virtual if threading.get_ident() == self._thread else trio, name)


@contextmanager
def replaced(*names: tuple[ModuleType, str, object]) -> Iterator[None]:
    """Within it, these names of modules stand for something else."""
    with ExitStack() as stack:
        for module, name, value in names:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        yield


def living_on(virtual: VirtualTrio) -> AbstractContextManager[None]:
    """Within it, nodes that are made in this thread live on a simulation's clock."""
    here = _TrioHere(virtual)
    clocks = [(module, "trio", here) for module in CLUSTER if hasattr(module, "trio")]
    return replaced(*clocks, (node, "Runner", _Runner))
