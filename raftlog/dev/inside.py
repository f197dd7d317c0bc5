"""Inside a broker of `raftlog dev`: links that can be cut, a disk that can be slow, a record that can be
followed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from raftlog.testing.disk import FaultyDisk
from raftlog.testing.network import Network
from raftlog.types import BrokerId

if TYPE_CHECKING:
    from raftlog.dev.seen import Followed


class Inside:
    """`raftlog.http.view.Faults` of one broker."""

    def __init__(self) -> None:
        self.disk = FaultyDisk()
        self.network = Network()

    def set(self, cut: frozenset[BrokerId], slow_s: float) -> None:
        self.network.cut(cut)
        self.disk.slow_down(slow_s)

    @contextmanager
    def follow(self) -> Iterator[Followed]:
        """Note what the event loop does for a batch that is produced meanwhile. Everything is slower while
        it is watched."""
        from raftlog.dev.seen import Followed
        from raftlog.dev.walk import codes

        known, followed = codes(), Followed()

        def note(frame: FrameType, event: str, argument: object) -> None:
            step = known.get(frame.f_code) if event == "call" else None
            if step is not None:
                followed.note(step)

        sys.setprofile(note)
        try:
            yield followed
        finally:
            sys.setprofile(None)
