"""kcat: the program, one process a call. `base.CAN` says what it cannot do."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Final

from tests import secured
from tests.compat.clients.base import PATIENCE_S, GroupDescription, Message, Record, TopicDescription

_END: Final = b"\x1e"
_KEY_END: Final = b"\x1f"
_DELIVERED: Final = re.compile(rb"delivered to partition \d+ \(offset (-?\d+)\)")
_ASSIGNED: Final = re.compile(r"(assigned|revoked):(.*)")
_ERRORS: Final = {"Broker: Unknown topic or partition": 3}


def executable() -> str | None:
    """kcat, under its present or its former name."""
    return shutil.which("kcat") or shutil.which("kafkacat")


class Kcat:
    name = "kcat"

    def __init__(self, bootstrap: str) -> None:
        found = executable()
        assert found is not None, "kcat is not installed"
        self._command = [found, "-b", bootstrap, "-m", str(int(PATIENCE_S)), *secured.kcat(bootstrap)]

    def _run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self._command, *arguments], input=stdin, capture_output=True, timeout=2 * PATIENCE_S, check=True
        )

    def producer(
        self, *, acks: str = "all", codec: str = "none", idempotent: bool | None = None, linger_ms: int = 0
    ) -> KcatProducer:
        settings = ["-X", f"acks={acks}", "-X", f"linger.ms={linger_ms}", "-X", "message.max.bytes=8000000"]
        if codec != "none":
            settings += ["-z", codec]
        if idempotent is not None:
            settings += ["-X", f"enable.idempotence={str(idempotent).lower()}"]
        return KcatProducer([*self._command, *settings], tells_offsets=acks != "0")

    def consumer(
        self,
        topic: str,
        *,
        group: str | None = None,
        partition: int | None = None,
        start: str = "earliest",
        instance_id: str | None = None,
    ) -> KcatConsumer:
        command = [*self._command, "-J", "-u", "-X", f"auto.offset.reset={start}"]
        command += ["-X", "session.timeout.ms=10000", "-X", "heartbeat.interval.ms=500"]
        if group is not None:
            return KcatConsumer([*command, "-G", group, topic], None)
        begin = "beginning" if start == "earliest" else "end"
        return KcatConsumer([*command, "-C", "-t", topic, "-p", str(partition or 0)], begin)

    def offset_for_time(self, topic: str, partition: int, timestamp: int) -> int | None:
        answer = self._run("-Q", "-t", f"{topic}:{partition}:{timestamp}").stdout
        offset = int(answer.split()[-1])
        return None if offset < 0 else offset

    def log_bounds(self, topic: str, partition: int) -> tuple[int, int]:
        first = self.offset_for_time(topic, partition, -2)
        end = self.offset_for_time(topic, partition, -1)
        assert first is not None and end is not None
        return first, end

    def _metadata(self, *arguments: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._run("-L", "-J", *arguments).stdout)
        return answer

    def topics(self) -> set[str]:
        return {topic["topic"] for topic in self._metadata()["topics"]}

    def describe_topic(self, name: str) -> TopicDescription:
        (topic,) = self._metadata("-t", name)["topics"]
        partitions = topic["partitions"]
        return TopicDescription(
            name,
            {p["partition"]: p["leader"] for p in partitions},
            {p["partition"]: tuple(replica["id"] for replica in p["replicas"]) for p in partitions},
        )

    def broker_ids(self) -> tuple[set[int], int]:
        answer = self._metadata()
        return {broker["id"] for broker in answer["brokers"]}, answer["controllerid"]

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        raise NotImplementedError

    def create_topic(
        self, name: str, *, partitions: int = 1, replicas: int = 1, configs: Mapping[str, str] | None = None
    ) -> None:
        raise NotImplementedError

    def delete_topic(self, name: str) -> None:
        raise NotImplementedError

    def add_partitions(self, name: str, total: int) -> None:
        raise NotImplementedError

    def topic_configs(self, name: str) -> Mapping[str, str]:
        raise NotImplementedError

    def alter_topic_config(self, name: str, key: str, value: str) -> None:
        raise NotImplementedError

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        raise NotImplementedError

    def delete_group(self, group: str) -> None:
        raise NotImplementedError

    def groups(self) -> set[str]:
        raise NotImplementedError

    def describe_group(self, group: str) -> GroupDescription:
        raise NotImplementedError

    def group_offsets(self, group: str, topic: str) -> Mapping[int, int]:
        raise NotImplementedError

    def close(self) -> None:
        pass


class KcatProducer:
    def __init__(self, command: list[str], *, tells_offsets: bool) -> None:
        self._command = command
        self._tells_offsets = tells_offsets

    def send(self, topic: str, messages: Iterable[Message]) -> list[int]:
        offsets: list[int] = []
        for (partition, headers, is_null, has_key), run in groupby(messages, _settings_of):
            arguments = ["-P", "-vv", "-t", topic, "-p", str(partition), "-D", "\\x1e"]
            for name, value in headers:
                arguments += ["-H", f"{name}={(value or b'').decode()}"]
            if is_null:
                arguments.append("-Z")
            if has_key:
                arguments += ["-K", "\\x1f"]
            offsets += self._send(arguments, list(run))
        return offsets

    def _send(self, arguments: list[str], messages: list[Message]) -> list[int]:
        lines = [
            (b"" if message.key is None else message.key + _KEY_END) + (message.value or b"") + _END
            for message in messages
        ]
        answer = subprocess.run(
            [*self._command, *arguments],
            input=b"".join(lines),
            capture_output=True,
            timeout=2 * PATIENCE_S,
            check=True,
        )
        if not self._tells_offsets:
            return [-1] * len(messages)
        offsets = sorted(map(int, _DELIVERED.findall(answer.stderr)))
        assert len(offsets) == len(messages), answer.stderr
        return offsets

    def close(self) -> None:
        pass


class KcatConsumer:
    """One kcat process; a seek starts another one, as its users do."""

    def __init__(self, command: list[str], begin: str | None) -> None:
        self._command = command
        self._has_group = begin is None
        self._assigned: frozenset[int] = frozenset()
        self._position = -1
        self._start([] if begin is None else ["-o", begin])

    def _start(self, arguments: list[str]) -> None:
        self._records: queue.Queue[Record] = queue.Queue()
        self._process = subprocess.Popen(
            [self._command[0], *arguments, *self._command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdout is not None and self._process.stderr is not None
        self._threads = [
            threading.Thread(target=self._read, args=(self._process.stdout, self._records), daemon=True),
            threading.Thread(target=self._watch, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, lines: IO[bytes], records: queue.Queue[Record]) -> None:
        for line in lines:
            fields = json.loads(line)
            key, value, names = fields["key"], fields["payload"], fields.get("headers", [])
            records.put(
                Record(
                    fields["partition"],
                    fields["offset"],
                    fields["ts"],
                    None if key is None else key.encode(),
                    None if value is None else value.encode(),
                    tuple(
                        (name, None if content is None else content.encode())
                        for name, content in zip(names[::2], names[1::2], strict=True)
                    ),
                )
            )

    def _watch(self, lines: IO[bytes]) -> None:
        for line in lines:
            found = _ASSIGNED.search(line.decode())
            if found is not None:
                partitions = frozenset(map(int, re.findall(r"\[(\d+)\]", found[2])))
                self._assigned = partitions if found[1] == "assigned" else self._assigned - partitions

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
            for thread in self._threads:
                thread.join()
            for pipe in (self._process.stdout, self._process.stderr):
                assert pipe is not None
                pipe.close()

    def poll(self, timeout_s: float) -> list[Record]:
        found = list(_taken(self._records, timeout_s))
        if found:
            self._position = found[-1].offset + 1
        return found

    def assignment(self) -> frozenset[int]:
        return self._assigned

    def seek(self, partition: int, offset: int) -> None:
        self._stop()
        self._position = offset
        self._start(["-o", str(offset)])

    def position(self, partition: int) -> int:
        return self._position

    def commit(self, offsets: Mapping[int, int] | None = None) -> None:
        """kcat commits what it printed when it ends."""
        assert self._has_group and offsets is None

    def close(self) -> None:
        self._stop()


def _settings_of(message: Message) -> tuple[Any, ...]:
    """What kcat has one setting of in a process."""
    return message.partition, message.headers, message.value is None, message.key is not None


def _taken(records: queue.Queue[Record], timeout_s: float) -> Iterator[Record]:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            yield records.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return
        deadline = min(deadline, time.monotonic() + 0.02)


def install() -> str | None:
    """Where kcat is, after an attempt to install it where that is allowed and possible."""
    found = executable()
    if found is not None or "RAFTLOG_TEST_NO_INSTALL" in os.environ:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return None
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["install"], ["update"], ["install"]):
        arguments = ["apt-get", "-qq", *command, *(["-y", "kcat"] if command == ["install"] else [])]
        try:
            subprocess.run(
                arguments, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=90
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if executable() is not None:
            break
    return executable()


HOW: Final = "kcat is not installed; on Debian and Ubuntu: apt-get install kcat"
LOCK: Final = Path(tempfile.gettempdir()) / "raftlog-tests-kcat.lock"
