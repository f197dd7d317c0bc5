"""`raftlog log`: look into the files of a stopped or running broker. Reads only."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from raftlog.cli import CommandGroup
from raftlog.cli.output import counted, joined, print_json, print_table, with_format
from raftlog.cli.times import format_time

if TYPE_CHECKING:
    from raftlog.metadata.catalog import Catalog
    from raftlog.records.batch import BatchHeader
    from raftlog.records.record import Record
    from raftlog.storage.inspect import BatchAt

Folder = click.Path(exists=True, file_okay=False)


@click.group(
    cls=CommandGroup,
    epilog="""\b
Examples:
  raftlog log verify raftlog-data
  raftlog log dump raftlog-data orders-0 --records
  raftlog log metadata raftlog-data
""",
)
def command() -> None:
    """Look into the files of a broker, stopped or running. Nothing is changed.

    Beside a running broker the last lines may be missing, or look cut off.
    """


def _reading_files(command: Callable[..., None]) -> Callable[..., None]:
    """Say in a line what cannot be read."""

    @wraps(command)
    def wrapped(*args: Any, **options: Any) -> None:
        from raftlog.cli.log_files import NoData
        from raftlog.errors import RaftlogError

        try:
            command(*args, **options)
        except (RaftlogError, NoData) as error:
            raise click.ClickException(str(error)) from error
        except FileNotFoundError as error:
            raise click.ClickException(
                f"{error.filename} has just gone: the broker is running; try again"
            ) from error
        except PermissionError as error:
            raise click.ClickException(
                f"{error.filename}: {error.strerror}: run this as its owner"
            ) from error

    return wrapped


@command.command(
    epilog="""\b
Examples:
  raftlog log dump raftlog-data
  raftlog log dump raftlog-data orders-0
  raftlog log dump raftlog-data orders-0 --records --from 1200 -n 10
  raftlog log dump raftlog-data --wal
"""
)
@click.argument("data_dir", type=Folder)
@click.argument("log", required=False)
@click.option("--records", is_flag=True, help="Print the records, not only the batches.")
@click.option("--from", "first", type=click.IntRange(min=0), default=0, metavar="OFFSET", help="Begin here.")
@click.option("-n", "-c", "--count", type=click.IntRange(min=1), metavar="N", help="End after so many lines.")
@click.option(
    "--wal", is_flag=True, help="Print the write-ahead log: entries, terms and votes of all groups."
)
@with_format
@_reading_files
def dump(
    data_dir: str, log: str | None, records: bool, first: int, count: int | None, wal: bool, output: str
) -> None:
    """Print the batches of a log, or, without LOG, which logs there are.

    LOG is a topic and a partition, such as orders-0. With --format json it is a JSON object a line.
    """
    if wal and log is not None:
        raise click.UsageError("the write-ahead log is one for all logs: give --wal or LOG")
    if wal:
        _dump_wal(data_dir, count, output)
    elif log is None:
        _dump_list(data_dir, output)
    else:
        _dump_log(data_dir, log, records, first, count, output)


@command.command(
    epilog="""\b
Examples:
  raftlog log verify raftlog-data
  raftlog log verify raftlog-data --format json
"""
)
@click.argument("data_dir", type=Folder)
@with_format
@_reading_files
def verify(data_dir: str, output: str) -> None:
    """Read every byte that a broker has made durable, and check it.

    Checks CRCs, offsets, lengths and that no file is missing. Exits with 1 when something is not what was
    written, and says which file and where.
    """
    from raftlog.cli.log_files import open_folder
    from raftlog.storage.inspect import verify as verify_folder

    disk, _ = open_folder(data_dir)
    found = verify_folder(disk, data_dir)
    if output == "json":
        findings = [{"path": f.path, "position": f.position, "problem": f.problem} for f in found.findings]
        numbers = {"wal_blocks": found.wal_blocks, "logs": found.logs, "batches": found.batches}
        print_json({"sound": not findings, **numbers, "bytes": found.bytes, "findings": findings})
    else:
        for finding in found.findings:
            click.echo(f"DAMAGED {finding}")
        state = counted(len(found.findings), "problem") if found.findings else "sound"
        click.echo(
            f"{state}: {counted(found.logs, 'log')}, {counted(found.bytes, 'byte')} in"
            f" {counted(found.batches, 'batch', 'batches')},"
            f" {counted(found.wal_blocks, 'write-ahead block')}"
        )
    if found.findings:
        raise SystemExit(1)


@command.command(
    epilog="""\b
Examples:
  raftlog log metadata raftlog-data
  raftlog log metadata raftlog-data --format json
"""
)
@click.argument("data_dir", type=Folder)
@with_format
@_reading_files
def metadata(data_dir: str, output: str) -> None:
    """Show what this broker knows of its cluster: brokers, topics, where groups are."""
    from raftlog.cli.log_files import open_folder, read_catalog

    disk, meta = open_folder(data_dir)
    catalog = read_catalog(disk, data_dir, meta)
    if output == "json":
        print_json({"node_id": meta.node_id, **_catalog_json(catalog)})
    else:
        _print_catalog(meta.node_id, catalog)


def _dump_list(data_dir: str, output: str) -> None:
    from raftlog.cli.log_files import full_names, open_folder, summaries

    disk, meta = open_folder(data_dir)
    logs = list(summaries(disk, data_dir))
    names = full_names(disk, data_dir, meta, [log.folder for log in logs])
    rows = [(names.get(log.folder, log.folder), log.segments, log.first, log.end, log.size) for log in logs]
    if output == "json":
        fields = ("log", "segments", "first_offset", "end_offset", "bytes")
        for row in rows:
            click.echo(json.dumps(dict(zip(fields, row, strict=True))))
    else:
        print_table(("LOG", "SEGMENTS", "FIRST", "END", "BYTES"), rows)


def _dump_wal(data_dir: str, count: int | None, output: str) -> None:
    from raftlog.cli.log_files import open_folder
    from raftlog.storage.inspect import dump_wal

    disk, _ = open_folder(data_dir)
    if output == "text":
        click.echo(f"{'BLOCK':>8}  {'KIND':10}  {'INDEX':>8}  {'TERM':>5}  {'COMMIT':>8}  {'GROUP':24}")
    for number, line in enumerate(dump_wal(disk, data_dir)):
        if number == count:
            return
        group = _group_name(line.key)
        if output == "json":
            fields = {"block": line.sequence, "kind": line.kind.name, "index": line.index, "term": line.term}
            click.echo(
                json.dumps({**fields, "commit": line.commit, "group": line.key.hex(), "text": line.text})
            )
        else:
            click.echo(
                f"{line.sequence:>8}  {line.kind.name:10}  {line.index:>8}  {line.term:>5}  {line.commit:>8}"
                f"  {group:24}  {line.text}".rstrip()
            )


def _group_name(key: bytes) -> str:
    from raftlog.types import METADATA_GROUP, partition_of_group

    if key == METADATA_GROUP:
        return "metadata"
    if not any(key):  # the store's own
        return "-"
    topic_id, number = partition_of_group(key)
    return f"{topic_id[:8].hex()}…-{number}"


def _dump_log(data_dir: str, log: str, records: bool, first: int, count: int | None, output: str) -> None:
    from raftlog.cli.log_files import find_log, open_folder, segment_paths
    from raftlog.storage.inspect import dump_segment

    disk, _ = open_folder(data_dir)
    folder = find_log(disk, data_dir, log)
    if output == "text" and not records:
        click.echo(_BATCH_LINE.format(*_BATCH_FIELDS))
    left = count if count is not None else -1
    for path in segment_paths(disk, data_dir, folder):
        file = disk.open(path)
        for batch in dump_segment(disk, path):
            if batch.problem is not None:
                click.echo(f"{path} byte {batch.position}: {batch.problem}", err=True)
                break
            assert batch.header is not None
            if batch.header.next_offset <= first:
                continue
            if left == 0:
                return
            if records:
                left = _dump_records(file.pread(batch.header.size, batch.position), first, left, output)
            else:
                _dump_batch(path.rpartition("/")[2], batch, batch.header, output)
                left -= 1


_BATCH_FIELDS = ("OFFSETS", "POSITION", "RECORDS", "BYTES", "CODEC", "EPOCH", "PRODUCER", "SEQUENCE", "TIME")
_BATCH_LINE = "{:>19}  {:>12}  {:>7}  {:>9}  {:6}  {:>5}  {:>10}  {:>8}  {}"


def _dump_batch(file: str, batch: BatchAt, header: BatchHeader, output: str) -> None:
    kind = header.codec.name.lower() + (" control" if header.is_control else "")
    if output == "json":
        fields = {
            "file": file,
            "position": batch.position,
            "base_offset": header.base_offset,
            "next_offset": header.next_offset,
            "records": header.record_count,
            "bytes": header.size,
            "codec": header.codec.name.lower(),
            "leader_epoch": header.leader_epoch,
            "producer_id": header.producer_id,
            "producer_epoch": header.producer_epoch,
            "base_sequence": header.base_sequence,
            "max_timestamp": header.max_timestamp,
            "transactional": header.is_transactional,
            "control": header.is_control,
        }
        click.echo(json.dumps(fields))
        return
    producer = f"{header.producer_id}/{header.producer_epoch}" if header.producer_id >= 0 else "-"
    sequence = header.base_sequence if header.producer_id >= 0 else "-"
    click.echo(
        _BATCH_LINE.format(
            f"{header.base_offset}..{header.next_offset - 1}",
            batch.position,
            header.record_count,
            header.size,
            kind,
            header.leader_epoch,
            producer,
            sequence,
            format_time(header.max_timestamp) if header.max_timestamp >= 0 else "-",
        )
    )


def _dump_records(data: bytes, first: int, left: int, output: str) -> int:
    """Print the records of a batch from an offset on, up to `left` of them; gives how many are left then."""
    from raftlog.records.record import decode_batch

    for record in decode_batch(data):
        if record.offset >= first and left != 0:
            click.echo(_record_json(record) if output == "json" else _record_text(record))
            left -= 1
    return left


def _record_text(record: Record) -> str:
    headers = ",".join(f"{name}={_shown(value)}" for name, value in record.headers)
    time = format_time(record.timestamp) if record.timestamp >= 0 else "-"
    line = f"{record.offset:>10}  {time}  key={_shown(record.key)}  value={_shown(record.value)}"
    return f"{line}  {headers}".rstrip()


def _record_json(record: Record) -> str:
    fields = {"offset": record.offset, "ts": record.timestamp}
    values = {"key": _readable(record.key), "payload": _readable(record.value)}
    return json.dumps({**fields, **values, "headers": {n: _readable(v) for n, v in record.headers}})


def _readable(value: bytes | None) -> str | None:
    """Text as it is; bytes that are no text with escapes."""
    return None if value is None else value.decode(errors="backslashreplace")


def _shown(value: bytes | None) -> str:
    return "null" if value is None else repr(_readable(value))


def _catalog_json(catalog: Catalog) -> dict[str, Any]:
    return {
        "cluster_id": catalog.cluster_id,
        "applied_index": catalog.applied_index,
        "next_producer_id": catalog.next_producer_id,
        "features": catalog.features,
        "brokers": [
            {
                "id": broker.id,
                "host": broker.host,
                "port": broker.port,
                "peer": f"{broker.peer_host}:{broker.peer_port}",
                "rack": broker.rack,
                "fenced": broker.fenced,
                "draining": broker.draining,
            }
            for broker in catalog.brokers.values()
        ],
        "topics": [
            {
                "topic": topic.name,
                "topic_id": topic.topic_id.hex(),
                "replicas": [list(partition.replicas) for partition in topic.partitions],
                "settings": dict(topic.configs),
            }
            for _, topic in sorted(catalog.topics.items())
        ],
        "groups": {
            group: [
                {"topic": t, "partition": p, "offset": at.offset}
                for (t, p), at in sorted(catalog.group_offsets.of(group).items())
            ]
            for group in sorted(catalog.group_offsets)
        },
        "members": {
            group: {"generation": kept.generation, "protocol": kept.protocol, "members": list(kept.members)}
            for group in sorted(catalog.groups)
            if (kept := catalog.groups.get(group)) is not None
        },
    }


def _print_catalog(node_id: int, catalog: Catalog) -> None:
    click.echo(
        f"cluster {catalog.cluster_id}, as node {node_id} knows it; entry {catalog.applied_index} applied\n"
    )
    brokers = [
        (
            broker.id,
            f"{broker.host}:{broker.port}",
            f"{broker.peer_host}:{broker.peer_port}" if broker.peer_port else None,
            broker.rack,
            "fenced" if broker.fenced else "draining" if broker.draining else "",
        )
        for broker in catalog.brokers.values()
    ]
    print_table(("BROKER", "CLIENTS", "PEERS", "RACK", "STATE"), brokers)
    topics = [
        (
            topic.name,
            len(topic.partitions),
            " ".join(joined(partition.replicas) for partition in topic.partitions),
            " ".join(f"{key}={value}" for key, value in topic.configs.items()),
        )
        for _, topic in sorted(catalog.topics.items())
    ]
    if topics:
        click.echo()
        print_table(("TOPIC", "PARTITIONS", "REPLICAS", "SETTINGS"), topics)
    groups = [
        (group, topic, partition, at.offset)
        for group in sorted(catalog.group_offsets)
        for (topic, partition), at in sorted(catalog.group_offsets.of(group).items())
    ]
    if groups:
        click.echo()
        print_table(("GROUP", "TOPIC", "PARTITION", "COMMITTED"), groups)
    members = [
        (group, kept.generation, kept.protocol, member)
        for group in sorted(catalog.groups)
        if (kept := catalog.groups.get(group)) is not None
        for member in kept.members or ("",)
    ]
    if members:
        click.echo()
        print_table(("GROUP", "GENERATION", "PROTOCOL", "MEMBER"), members)
