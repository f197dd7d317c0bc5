"""The workers that are compared: how each is started, and what tells how far it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.kafka_peer.jars import cache_dir, jars

HERE: Final = Path(__file__).parent
QUIX: Final = "3.28.1"
HEAP: Final = "512m"


@dataclass(frozen=True, slots=True)
class Kind:
    """A worker. `warm`: records that it is given before it is measured. `share` of the records that others
    are measured with: less for who takes very long. `repartition`: the topic in between of the load `words`,
    from the app's name and its input."""

    command: Callable[[], list[str]]
    settings: tuple[str, ...]
    warm: int
    share: float
    repartition: str


def _raftlog() -> list[str]:
    return [sys.executable, str(HERE / "worker_raftlog.py")]


def _kafka_streams() -> list[str]:
    """Compiled as it starts, which is long over when it is measured."""
    return [
        "java", f"-Xms{HEAP}", f"-Xmx{HEAP}", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp", f"{jars('apps')}/*", str(HERE / "WorkerKafkaStreams.java"),
    ]  # fmt: skip


def _quix() -> list[str]:
    """Quix Streams brings some forty packages: it gets an environment of its own, at the first call."""
    folder = cache_dir().parent / f"quix-{QUIX}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"installing Quix Streams {QUIX} …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, f"quixstreams=={QUIX}"], check=True)
        (folder / "ready").touch()
    return [str(python), str(HERE / "worker_quix.py")]


WARM_OF_A_JVM: Final = 1_500_000
"""Until its second compiler has been through: behind that the CPU time a record falls no more."""

KINDS: Final = {
    "raftlog": Kind(_raftlog, (), 200_000, 1.0, "{app}-counts-repartition"),
    "kafka-streams": Kind(_kafka_streams, (), WARM_OF_A_JVM, 1.0, "{app}-words-repartition"),
    "kafka-streams-each": Kind(
        _kafka_streams, ("statestore.cache.max.bytes=0",), WARM_OF_A_JVM, 1.0, "{app}-words-repartition"
    ),
    "quix": Kind(_quix, (), 50_000, 0.25, "repartition__{app}--{input}--words"),
}


class Worker:
    """A worker that runs. A context manager that ends it."""

    def __init__(
        self, kind: Kind, load: str, bootstrap: str, app: str, source: str, target: str, folder: Path
    ) -> None:
        arguments = (load, bootstrap, app, source, target, str(folder / app), *kind.settings)
        self._log = folder / f"{app}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([*kind.command(), *arguments], stdout=log, stderr=log)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()

    def cpu_seconds(self) -> float:
        """Of all its threads, in the kernel too. Raises SystemExit when it has ended."""
        if self._process.poll() is not None:
            raise SystemExit(f"ended with {self._process.returncode}:\n{self._log.read_text()[-3000:]}")
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """At its highest."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024
