"""meta.toml: whose folder this is. Written when the folder is made, and again for the cluster's id and its
founders and when its groups are whole."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from typing import Final

from crc32c import crc32c

from raftlog.errors import ConfigError, DamagedLog
from raftlog.storage.disk import Disk
from raftlog.storage.snapshot import write_file
from raftlog.types import BrokerId

FORMAT_VERSION: Final = 2
"""1 had no checksum: a flipped bit could make a folder that lacks something look as if it lacked nothing."""
META_NAME: Final = "meta.toml"
LOCK_NAME: Final = "lock"
WAL_NAME: Final = "wal"
SCRATCH_NAME: Final = "cleaning"
"""Where compaction writes; of no use once the process has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """The identity of a data folder; `wal_id` tells its write-ahead log's blocks from all others."""

    node_id: BrokerId
    cluster_id: str | None
    wal_id: int
    is_rejoining: bool = False
    """The folder was made empty, in the place of one that may have held more: the logs that are made in it
    may lack what they once acknowledged."""
    founders: frozenset[BrokerId] = frozenset()
    """The brokers that founded the cluster; none where that has not been noted."""

    def check(self, root: str, node_id: BrokerId, cluster_id: str | None) -> None:
        """Raise ConfigError when the folder is not this node's or not this cluster's."""
        if self.node_id != node_id:
            raise ConfigError(f"{root} belongs to node {self.node_id}, not to node {node_id}")
        if None not in (self.cluster_id, cluster_id) and self.cluster_id != cluster_id:
            raise ConfigError(
                f"{root} belongs to cluster {self.cluster_id}, not to cluster {cluster_id}: start it with"
                " that id (raftlog.cluster.id, CLUSTER_ID) or with none, or name another folder"
            )


def read_meta(disk: Disk, root: str) -> Meta | None:
    """What meta.toml says; None when there is none. Raises ConfigError, DamagedLog."""
    path = f"{root}/{META_NAME}"
    if not disk.exists(path):
        return None
    file = disk.open(path)
    try:
        data = file.pread(file.size(), 0)
        fields = tomllib.loads(data.decode())
        version = fields["format_version"]
        if version not in (1, FORMAT_VERSION):
            raise ConfigError(f"{path}: format version {version} is not known, only up to {FORMAT_VERSION}")
        if version > 1 and not data.endswith(_seal(data[: data.rindex(b"crc")])):
            raise DamagedLog(f"{path}: its bytes do not have its crc")
        return Meta(
            node_id=BrokerId(int(fields["node_id"])),
            cluster_id=fields.get("cluster_id"),
            wal_id=int(fields["wal_id"], 16),
            is_rejoining=bool(fields.get("rejoining", False)),
            founders=frozenset(BrokerId(int(one)) for one in fields.get("founders", ())),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedLog(f"{path}: not what was written: {error!r}") from error


def write_meta(disk: Disk, root: str, meta: Meta) -> None:
    """Replace meta.toml, durably. Raises OSError."""
    lines = [
        "# Whose data this is. Written by raftlog; do not edit.",
        f"format_version = {FORMAT_VERSION}",
        f"node_id = {meta.node_id}",
        f'wal_id = "{meta.wal_id:016x}"',
    ]
    if meta.cluster_id is not None:
        lines.append(f"cluster_id = {json.dumps(meta.cluster_id)}")
    if meta.founders:
        lines.append(f"founders = {sorted(meta.founders)}")
    if meta.is_rejoining:
        lines.append("rejoining = true")
    data = "\n".join([*lines, ""]).encode()
    write_file(disk, root, META_NAME, [data, _seal(data)])


def _seal(data: bytes) -> bytes:
    """The last line, over all that is before it."""
    return b'crc = "%08x"\n' % crc32c(data)
