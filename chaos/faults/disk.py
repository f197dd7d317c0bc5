"""Faults of disks: syscalls that strace delays or fails, file systems that are full or read-only, bytes that
turn over, and files that are cut."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chaos.faults.fault import CannotRun, Fault, NoEffect
from chaos.faults.processes import Brokers
from raftlog.testing.processes import BrokerProcess

ATTACH_TIMEOUT_S: Final = 10.0
EXIT_TIMEOUT_S: Final = 30.0
SYNCS: Final = "fsync,fdatasync"
WRITES: Final = "pwrite64,pwritev,pwritev2,ftruncate,fallocate"
"""Of files; what goes to sockets has other names."""
MEBIBYTE: Final = 1 << 20


def check_strace() -> None:
    """Raises CannotRun."""
    if shutil.which("strace") is None or os.geteuid() != 0:
        raise CannotRun(
            "syscalls are delayed and failed by strace, as root (on Debian: apt-get install strace)"
        )


def check_mounts() -> None:
    """Raises CannotRun."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        raise CannotRun("a file system that can be full needs Linux, root, and mount")


class _Traced(Fault):
    """strace attached to a broker, with an injection."""

    def __init__(
        self, what: str, brokers: Brokers, victim: int, folder: Path, calls: str, injection: str
    ) -> None:
        super().__init__(what, [victim])
        self._victim = brokers[victim]
        self._log = folder / f"strace-{victim}-{time.monotonic_ns()}.log"
        self._calls = calls
        self._injection = injection
        self._strace: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        command = ["strace", "-f", "-p", str(self._victim.pid), "-e", f"trace={self._calls}"]
        command += ["-e", f"inject={self._calls}:{self._injection}", "-o", str(self._log)]
        self._strace = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + ATTACH_TIMEOUT_S
        tasks = Path(f"/proc/{self._victim.pid}/task")
        while any("TracerPid:\t0\n" in (task / "status").read_text() for task in tasks.iterdir()):
            if self._strace.poll() is not None or time.monotonic() > deadline:
                raise NoEffect(f"strace could not attach to {self._victim}")
            time.sleep(0.01)

    def detach(self) -> int:
        """How many syscalls were injected."""
        assert self._strace is not None
        if self._strace.poll() is None:
            self._strace.send_signal(signal.SIGINT)
        self._strace.communicate(timeout=ATTACH_TIMEOUT_S)
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return len(re.findall(r"\((?:INJECTED|DELAYED)\)", text))


class SlowDisk(_Traced):
    """Every sync takes `seconds` longer."""

    kind = "slow disk"

    def __init__(self, brokers: Brokers, victim: int, folder: Path, seconds: float) -> None:
        injection = f"delay_exit={int(seconds * 1e6)}"
        super().__init__(f"disk {victim} slow {seconds:g} s", brokers, victim, folder, SYNCS, injection)

    def end(self) -> str:
        count = self.detach()
        if not count:
            raise NoEffect(f"no sync of broker {self._victim.node_id} was delayed")
        return f"{count} syncs were delayed"


class SyncFails(_Traced):
    """Syncs fail with EIO. A broker that goes on would trust a page cache that may lie (fsyncgate): it must
    stop, with exit code 74."""

    kind = "sync fails"

    def __init__(self, brokers: Brokers, victim: int, folder: Path) -> None:
        super().__init__(f"fsync of {victim} fails", brokers, victim, folder, SYNCS, "error=EIO:when=1")

    def end(self) -> str:
        ended = await_disk_failure(self._victim)
        count = self.detach()
        self._victim.start()
        if not count:
            raise NoEffect(f"no {self._calls} of broker {self._victim.node_id} failed")
        return ended


class ReadOnlyDisk(SyncFails):
    """As a file system that was remounted read-only: every write and every sync fails with EROFS."""

    kind = "read-only disk"

    def __init__(self, brokers: Brokers, victim: int, folder: Path) -> None:
        calls = f"{WRITES},{SYNCS}"
        _Traced.__init__(self, f"disk {victim} read-only", brokers, victim, folder, calls, "error=EROFS")


def await_disk_failure(broker: BrokerProcess) -> str:
    """The broker stops by itself, as its exit code says for its disk. Raises NoEffect."""
    deadline = time.monotonic() + EXIT_TIMEOUT_S
    while broker.is_running and time.monotonic() < deadline:
        time.sleep(0.02)
    if broker.is_running:
        raise NoEffect(f"broker {broker.node_id} goes on after its disk has failed")
    code = broker.wait()
    if code != DISK_FAILED:
        raise NoEffect(f"broker {broker.node_id} ended with {code}: {broker.log_tail(5)}")
    return f"it stopped by itself, exit code {code}"


DISK_FAILED: Final = 74
"""The exit code of a broker whose disk failed (docs/guides/operations.md)."""


class FullDisk(Fault):
    """The broker's own small file system is filled, until it stops by itself; then there is room again."""

    kind = "full disk"

    def __init__(self, brokers: Brokers, victim: int) -> None:
        super().__init__(f"disk {victim} full", [victim])
        self._victim = brokers[victim]
        self._ballast = self._victim.data_dir.parent / "ballast"

    def begin(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(MEBIBYTE))
            except OSError:
                pass
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def end(self) -> str:
        try:
            ended = await_disk_failure(self._victim)
        finally:
            self._ballast.unlink()
        self._victim.start()
        return ended


class FlippedBytes(Fault):
    """Bytes of the segments of one broker turn over while it runs."""

    kind = "flipped bytes"

    def __init__(self, brokers: Brokers, victim: int, topic: str, rng: random.Random, count: int = 3) -> None:
        super().__init__(f"flip {count} bytes of {victim}", [victim])
        self._victim = brokers[victim]
        self._topic, self._rng, self._count = topic, rng, count
        self._flipped: list[str] = []

    def begin(self) -> None:
        files = segments(self._victim.data_dir, self._topic)
        if not files:
            raise NoEffect(f"broker {self._victim.node_id} has nothing of {self._topic}")
        for _ in range(self._count):
            path = self._rng.choice(files)
            position = self._rng.randrange(path.stat().st_size)
            with path.open("r+b") as file:
                file.seek(position)
                (value,) = file.read(1)
                file.seek(position)
                file.write(bytes([value ^ 1 << self._rng.randrange(8)]))
            self._flipped.append(f"{path.parent.name}/{path.name} at {position}")

    def end(self) -> str:
        return f"turned over: {', '.join(self._flipped)}"


class CutFiles(Fault):
    """A broker is killed, and its youngest segments lose their ends before it is started again."""

    kind = "cut files"

    def __init__(self, brokers: Brokers, victim: int, topic: str, rng: random.Random) -> None:
        super().__init__(f"cut files of {victim}", [victim])
        self._victim = brokers[victim]
        self._topic, self._rng = topic, rng
        self._cut: list[str] = []

    def begin(self) -> None:
        self._victim.kill()
        newest = {path.parent: path for path in segments(self._victim.data_dir, self._topic)}
        if not newest:
            raise NoEffect(f"broker {self._victim.node_id} has nothing of {self._topic}")
        for path in newest.values():
            size = path.stat().st_size
            cut = self._rng.randint(1, min(size, 4096))
            os.truncate(path, size - cut)
            self._cut.append(f"{cut} bytes of {path.parent.name}/{path.name}")

    def end(self) -> str:
        self._victim.start()
        return f"cut: {', '.join(self._cut)}"


def segments(data_dir: Path, topic: str) -> list[Path]:
    """The segment files of a topic that hold something, oldest first."""
    found = sorted(data_dir.glob(f"{topic}-*/*.log"))
    return [path for path in found if path.stat().st_size]


def mount_small(path: Path, size: int) -> None:
    """A file system of its own, of `size` bytes, that can be full. Raises CannotRun."""
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "chaos", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotRun(f"{' '.join(command)}: {done.stderr.strip()}")


def unmount(paths: Sequence[Path]) -> None:
    for path in paths:
        subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)
