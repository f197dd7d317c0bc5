"""Files that a log does not name any more, until nobody needs them."""

from __future__ import annotations

from collections.abc import Sequence

from raftlog.storage.filling import Copy


class Doomed:
    """Of one log. A checkpoint removes them once the snapshot file that no longer names them is durable,
    unless a copy is under way that began before."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._copies: list[Copy] = []

    def add(self, paths: Sequence[str]) -> None:
        self._paths += paths

    def take(self) -> list[str]:
        """Those that the next checkpoint removes."""
        kept = {path for copy in self._copies for path in copy.paths}
        taken, self._paths = self._paths, [path for path in self._paths if path in kept]
        return [path for path in taken if path not in kept] if kept else taken

    def keep_for(self, copy: Copy) -> None:
        """Until `copy_ended`."""
        self._copies.append(copy)

    def copy_ended(self, copy: Copy) -> None:
        self._copies.remove(copy)
