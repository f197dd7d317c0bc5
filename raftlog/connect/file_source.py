"""`file-source`: the lines of files that grow and are rotated. `tailing.py` knows how; here is which files.

A unit is a path that a pattern finds, `{"filename": PATH}`, as with Kafka Connect's file source, so that a
connector can come from there and go back. Rotation by copying and truncating can lose what is written between
the two: only renaming cannot.
"""

from __future__ import annotations

import fnmatch
import glob
import logging
import os
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import trio

from raftlog.connect.contract import Batch, Position, Source, SourceRecord, Unit
from raftlog.connect.options import option
from raftlog.connect.tailing import Fingerprint, Tail, head_of
from raftlog.errors import ConfigError

log: Final = logging.getLogger("raftlog.connect")

POLL_SECONDS: Final = 0.25
"""Between two looks at a file that has nothing new."""
SETTLE_SECONDS: Final = 1.0
"""A path that appears beside files known already may be one of them, half renamed or copied: it is looked at
twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSourceConfig:
    paths: tuple[str, ...] = option(doc="Paths, or patterns such as /var/log/app/*.log.")
    topic: str = option(doc="The topic to write to.")
    exclude: tuple[str, ...] = option(
        ("*.gz", "*.bz2", "*.xz", "*.zst", "*.zip"),
        doc="Names that are left out although a pattern finds them.",
    )
    start: Literal["beginning", "end"] = option(
        "beginning", doc="Where a file begins that was never read before and is there at the start."
    )
    rotate_wait_s: float = option(
        2.0, doc="How long a file is read on once the path has another one, in seconds.", least=0
    )
    line_bytes_max: int = option(1_000_000, doc="A longer line ends the connector.", least=1)

    def __post_init__(self) -> None:
        if not self.paths:
            raise ConfigError("paths is empty: name at least one")


class FileSource(Source):
    """Gives lines."""

    Config = FileSourceConfig
    config: FileSourceConfig

    def __init__(self, config: FileSourceConfig, name: str) -> None:
        super().__init__(config, name)
        self._tails: dict[str, Tail] = {}
        self._seen: dict[str, float] = {}
        self._stored: Mapping[Unit, Position] = {}
        self._from_end: frozenset[str] | None = None
        self._by_name = [os.path.abspath(path) for path in config.paths if not glob.has_magic(path)]

    async def units(self, stored: Mapping[Unit, Position]) -> Sequence[Unit]:
        """The paths that there are, and those that were read before."""
        return await trio.to_thread.run_sync(self._units, stored, trio.current_time())

    def _units(self, stored: Mapping[Unit, Position], now: float) -> list[Unit]:
        config = self.config
        before = [
            (tail, tail.before) for tail in list(self._tails.values())
        ]  # what has gone before this look
        self._stored = stored
        known = self._known()
        looks = self._look()
        here = {path: _same(path, *look, known) for path, look in looks.items()}
        units = {path: Unit.of(filename=path) for path in sorted({*looks, *self._waited_for(looks)})}
        found = {path: unit for path, unit in units.items() if unit in stored or path in self._tails}
        new = [path for path in units if path not in found]
        begun = [path for path in new if path not in looks or self._is_new(path, looks, here, now)]
        if self._from_end is None:
            self._from_end = frozenset(path for path in begun if path in looks and config.start == "end")
        self._seen = {path: at for path, at in self._seen.items() if path in new and path not in begun}
        found |= {path: units[path] for path in begun}
        for path in new:  # renamed, and nothing is at its old path yet: there it is read on
            for same in here.get(path, ()):
                unit = Unit.of(filename=known[same])
                if unit in stored:
                    found.setdefault(known[same], unit)
        seen = {each for some in here.values() for each in some}
        for tail, fingerprints in before:  # what no pattern finds any more need not be remembered
            tail.forget([each for each in fingerprints if each not in seen])
        return list(found.values())

    def _look(self) -> dict[str, tuple[bytes, os.stat_result]]:
        """The files that there are, and how they begin."""
        looks = {}
        for pattern in self.config.paths:
            for path in glob.glob(pattern) if glob.has_magic(pattern) else [pattern]:
                name = os.path.basename(path)
                if not any(fnmatch.fnmatch(name, each) for each in self.config.exclude):
                    try:
                        looks[os.path.abspath(path)] = head_of(path)
                    except OSError:
                        continue  # gone meanwhile, or a folder, or not ours to read: it is looked at again
        return looks

    def _known(self) -> dict[Fingerprint, str]:
        """Files that are read, or were, by fingerprint: under which path."""
        known: dict[Fingerprint, str] = {}
        for unit, position in list(self._stored.items()):
            path = str(unit.partition.get("filename"))
            for given in (position.get("fingerprint"), *position.get("before", ())):
                if given is not None:
                    known[Fingerprint.read(given)] = path
        for path, tail in list(self._tails.items()):
            for each in (tail.fingerprint, *tail.before):
                if each is not None:
                    known[each] = path
        return known

    def _is_new(
        self,
        path: str,
        looks: Mapping[str, tuple[bytes, os.stat_result]],
        here: Mapping[str, Sequence[Fingerprint]],
        now: float,
    ) -> bool:
        """Whether a path is a file of its own, and not one that is known by another name."""
        if here[path] or not looks[path][0]:
            return False
        is_first = self._from_end is None
        return is_first or not self._tails or now - self._seen.setdefault(path, now) >= SETTLE_SECONDS

    def _is_known(self, path: str, head: bytes, stat: os.stat_result) -> bool:
        """Whether the file that has come to a path is one that was there before, or is another path's."""
        return bool(_same(path, head, stat, self._known()))

    def _waited_for(self, looks: Collection[str]) -> list[str]:
        """Paths by name that are not there, so that their first line does not wait for the next look, or that
        cannot be read, which whoever reads them says."""
        return [path for path in self._by_name if path not in looks]

    async def read(self, unit: Unit, position: Position | None) -> AsyncGenerator[Batch, None]:
        """Lines, as they come."""
        path = str(unit.partition["filename"])
        config = self.config
        tail = Tail(
            path,
            position,
            at_end=path in (self._from_end or ()),
            rotate_wait_s=config.rotate_wait_s,
            line_bytes_max=config.line_bytes_max,
            is_known=self._is_known,
        )
        self._tails[path] = tail
        truncated = gone = 0
        try:
            while True:
                lines = await trio.to_thread.run_sync(tail.read, trio.current_time())
                if tail.truncated > truncated:
                    truncated = tail.truncated
                    log.warning("%s was cut short: lines that were not read before that are lost", path)
                if tail.gone > gone:
                    gone = tail.gone
                    log.error("%s: the file that was read there is gone, with what was not read", path)
                if lines is None:
                    await trio.sleep(POLL_SECONDS)
                    continue
                topic = config.topic
                yield Batch([SourceRecord(topic, line) for line in lines.lines], lines.position)
                if tail.is_deleted and path not in self._by_name:
                    del self._tails[path]  # a file that comes to the path is found by its pattern
                    return
        finally:
            tail.close()


def _same(
    path: str, head: bytes, stat: os.stat_result, known: Mapping[Fingerprint, str]
) -> list[Fingerprint]:
    """Which of the files that are known a file is: renamed, with their inode, or copied to a name that begins
    with theirs. Files that only begin alike are each their own."""
    name = os.path.basename(path)
    return [
        each
        for each, other in known.items()
        if each.is_of(head, stat.st_ino)
        or (name.startswith(os.path.basename(other)) and each.is_copied_by(head, stat.st_size))
    ]
