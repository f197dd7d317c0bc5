"""What is said to who comes from another test kit: a broker that was not started by `with`, a name that
such a kit has for the address, a test of asyncio's."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, NoReturn, TypeVar

import trio

T = TypeVar("T", covariant=True)

ADDRESSES: Final = frozenset(("address", "bootstrapserver", "bootstrapservers", "connectionstring", "url"))
"""What other kits call the address, without underscores and the `get` before it."""


class Starting(AbstractContextManager[T]):
    """`with` gives a T. Entered once."""

    def __init__(self, manager: AbstractContextManager[T], how: str) -> None:
        """`how` is the `with` as it should be written."""
        self._manager = manager
        self._how = how

    def __repr__(self) -> str:
        return f"<{self._how} …>"

    def __enter__(self) -> T:
        return self._manager.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._manager.__exit__(kind, error, trace)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"no attribute {name!r}: this is not started yet: {self._how}")


def elsewhere(name: str, owner: object) -> str:
    """What to say of an attribute that a cluster does not have."""
    is_address = name.lower().replace("_", "").removeprefix("get") in ADDRESSES
    cure = ": where clients find it is .bootstrap" if is_address else ""
    return f"{type(owner).__name__!r} object has no attribute {name!r}{cure}"


def must_be_trio() -> None:
    """Raise NotOnTrio under asyncio, or outside of any event loop."""
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        from raftlog.client.errors import NotOnTrio

        raise NotOnTrio(
            "embedded_broker and embedded_cluster run on Trio, and this is no task of Trio's: a test of"
            " asyncio takes `with running_broker() as broker:`, or the fixture raftlog_broker"
        ) from None
