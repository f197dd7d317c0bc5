"""What names of `raftlog.cluster` stand for while a simulation runs."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from types import ModuleType
from typing import Final

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


@contextmanager
def replaced(*names: tuple[ModuleType, str, object]) -> Iterator[None]:
    """Within it, these names of modules stand for something else."""
    with ExitStack() as stack:
        for module, name, value in names:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        yield


def living_on(trio: VirtualTrio) -> AbstractContextManager[None]:
    """Within it, nodes live on a simulation's clock."""
    clocks = [(module, "trio", trio) for module in CLUSTER if hasattr(module, "trio")]
    return replaced(*clocks, (node, "Runner", _Runner))
