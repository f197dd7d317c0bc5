"""What the replicas of a cluster hold on their disks, held against each other.

Segments hold committed batches only, as the leader stamped them: the same bytes on every replica.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from raftlog.cli.log_files import ReadOnlyDisk
from raftlog.storage.inspect import verify

_CHUNK = 1 << 20


def partition_sizes(data_dir: Path, topic: str) -> dict[int, int]:
    """Bytes in the segments of every partition of a topic that this broker keeps."""
    return {
        partition: sum(path.stat().st_size for path in paths)
        for partition, paths in _segments(data_dir, topic).items()
    }


def partition_digests(data_dir: Path, topic: str) -> dict[int, str]:
    """A digest of everything in every partition's segments, wherever a segment ends."""
    digests = {}
    for partition, paths in _segments(data_dir, topic).items():
        digest = hashlib.blake2b(digest_size=16)
        for path in paths:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        digests[partition] = digest.hexdigest()
    return digests


def differences(data_dirs: Mapping[int, Path], topic: str, partitions: int, replicas: int) -> list[str]:
    """What is wrong with the replicas of stopped brokers; an empty list when nothing is."""
    found: dict[int, dict[int, str]] = defaultdict(dict)
    problems = []
    for broker, data_dir in data_dirs.items():
        problems += [f"broker {broker}: {one}" for one in verify(ReadOnlyDisk(), str(data_dir)).findings]
        for partition, digest in partition_digests(data_dir, topic).items():
            found[partition][broker] = digest
    for partition in range(partitions):
        copies = found[partition]
        if len(copies) != replicas:
            problems.append(f"{topic}-{partition} is on brokers {sorted(copies)}, not on {replicas}")
        if len(set(copies.values())) > 1:
            problems.append(f"{topic}-{partition} differs: {_sizes(data_dirs, copies, topic, partition)}")
    return problems


def _sizes(data_dirs: Mapping[int, Path], copies: Iterable[int], topic: str, partition: int) -> str:
    return ", ".join(
        f"{partition_sizes(data_dirs[broker], topic)[partition]} bytes on broker {broker}"
        for broker in copies
    )


def _segments(data_dir: Path, topic: str) -> dict[int, list[Path]]:
    """The segment files of every partition, oldest first."""
    found = {}
    for folder in data_dir.glob(f"{topic}-*"):
        number = folder.name.removeprefix(f"{topic}-").partition(".")[0]
        if number.isdigit():
            found[int(number)] = sorted(folder.glob("*.log"))
    return found
