"""Apache Kafka's jars from Maven Central, kept for the next run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

VERSION: Final = "4.1.1"
POM: Final = Path(__file__).with_name("pom.xml")


def cache_dir() -> Path:
    return Path(os.environ.get("RAFTLOG_KAFKA_CACHE") or Path.home() / ".cache" / "raftlog" / "kafka")


def jars(*, tools: bool = False) -> Path:
    """The folder of the broker's jars, or of those and the command-line tools'; filled at the first call."""
    kind, last = ("tools", "kafka-tools") if tools else ("lib", "kafka_2.13")
    folder = cache_dir() / f"{kind}-{VERSION}"
    if not (folder / f"{last}-{VERSION}.jar").exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"resolving Apache Kafka {VERSION} with Maven …", file=sys.stderr, flush=True)
        subprocess.run(
            ["mvn", "-q", "-B", "-f", POM, f"-Dkafka.version={VERSION}", *(["-Ptools"] if tools else []),
             "dependency:copy-dependencies", f"-DoutputDirectory={folder}"],
            check=True,
        )  # fmt: skip
    return folder
