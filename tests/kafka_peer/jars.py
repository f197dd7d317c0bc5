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


LAST: Final = {"lib": "kafka_2.13", "tools": "kafka-tools", "apps": "connect-mirror"}
"""Of each folder one of the jars that only it has."""


def jars(kind: str = "lib", version: str = VERSION) -> Path:
    """The folder of the broker's jars; or of those and the jars of the command-line tools, or of the `apps`.
    It is filled at the first call."""
    last = LAST[kind]
    folder = cache_dir() / f"{kind}-{version}"
    if not (folder / f"{last}-{version}.jar").exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"resolving Apache Kafka {version} with Maven …", file=sys.stderr, flush=True)
        profile = [] if kind == "lib" else [f"-P{kind}"]
        subprocess.run(
            ["mvn", "-q", "-B", "-f", POM, f"-Dkafka.version={version}", *profile,
             "dependency:copy-dependencies", f"-DoutputDirectory={folder}"],
            check=True,
        )  # fmt: skip
    return folder
