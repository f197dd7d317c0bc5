"""Programs of Java and of node: run to their end, or in the background with their output as it comes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.kafka_peer.jars import VERSION, cache_dir, jars

PATIENCE_S: Final = 60.0
BUILD_PATIENCE_S: Final = 600.0
KAFKAJS: Final = "2.2.4"
DEBEZIUM: Final = "3.4.3.Final"
DEBEZIUM_KAFKA: Final = "4.3.1"
"""Of the worker that Debezium runs on. It reads its offsets to their end all the time, and up to 4.3.0 the
client that finds the end goes on asking a leader that was killed until that is back (KAFKA-20673)."""
FLINK: Final = "2.2.0"
FLINK_KAFKA: Final = "4.0.1-2.0"
"""The version of Flink's connector, then the version of Flink that the connector is built for."""
SPARK: Final = "4.2.0"
SPARK_JARS: Final = (
    "spark-sql-kafka-0-10_2.13",
    "spark-token-provider-kafka-0-10_2.13",
    "kafka-clients",
    "commons-pool2",
)
"""What Spark does not bring along."""
TOOLS: Final = {
    "console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "reassign": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "configs": "kafka.admin.ConfigCommand",
}
"""The main classes that do not lie in `org.apache.kafka.tools` itself."""


class Background:
    """A program that goes on while the test does; each line that it prints is read as JSON."""

    def __init__(self, command: list[str]) -> None:
        self.said: list[dict[str, Any]] = []
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._errors = ""
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(json.loads(line))

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors += line

    def until(self, what: str, condition: Callable[[], object]) -> None:
        """Wait for a condition, as long as the program lives."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, (
                f"not within {PATIENCE_S} s: {what}\n{self.said[-5:]}\n{self._errors[-3000:]}"
            )
            if self._process.poll() is not None:
                self.stop()
                raise AssertionError(f"ended before {what}: {self.said[-5:]}\n{self._errors[-3000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM, and everything it printed is in `said`."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            for reader in self._readers:
                reader.join()
            for stream in (self._process.stdout, self._process.stderr):
                assert stream is not None
                stream.close()


class JavaTools:
    """Apache Kafka's command-line tools by the name of their class, or as `TOOLS` calls them; with `apps` the
    programs that Kafka's libraries make."""

    def __init__(self, kind: str = "tools", version: str = VERSION) -> None:
        for program in ("java", "mvn"):
            if shutil.which(program) is None:
                raise FileNotFoundError(program)
        self._java = ["java", "-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        self._java += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{jars(kind, version)}/*"]

    def program(self, name: str, *arguments: object) -> list[str]:
        """A program by the whole name of its class."""
        return [*self._java, name, *map(str, arguments)]

    def source(self, name: str, *arguments: object) -> list[str]:
        """A program of this folder, which Java compiles as it starts it."""
        return [*self._java, str(Path(__file__).with_name(f"{name}.java")), *map(str, arguments)]

    def command(self, tool: str, *arguments: object) -> list[str]:
        return [*self._java, TOOLS.get(tool, f"org.apache.kafka.tools.{tool}"), *map(str, arguments)]

    def __call__(self, tool: str, *arguments: object, input: str = "", code: int | None = 0) -> str:
        """What the tool printed, of errors too when it may fail; it must end with that code."""
        return _run(self.command(tool, *arguments), code, input)

    def run(self, name: str, *arguments: object) -> list[dict[str, Any]]:
        """What a program of this folder did, from the JSON in its lines."""
        return [json.loads(line) for line in _run(self.source(name, *arguments), 0).splitlines()]


def debezium() -> Path:
    """The folder for a worker's `plugin.path`, with Debezium's connector for Postgres in it."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise FileNotFoundError(program)
    plugins = cache_dir().parent / f"debezium-{DEBEZIUM}"
    if not (plugins / "ready").exists():
        pom = Path(__file__).with_name("debezium") / "pom.xml"
        copy = ["mvn", "-q", "-B", "-f", str(pom), f"-Ddebezium.version={DEBEZIUM}"]
        copy += ["dependency:copy-dependencies", f"-DoutputDirectory={plugins / 'postgres'}"]
        _run(copy, 0, patience_s=BUILD_PATIENCE_S)
        (plugins / "ready").touch()
    return plugins


class Go:
    """The program in `go/`, built once from the Go module proxy."""

    def __init__(self) -> None:
        if shutil.which("go") is None:
            raise FileNotFoundError("go")
        source = Path(__file__).with_name("go")
        self._program = cache_dir().parent / "go-clients"
        self._program.parent.mkdir(parents=True, exist_ok=True)
        build = ["go", "build", "-C", str(source), "-o", str(self._program), "."]
        ended = subprocess.run(build, capture_output=True, text=True, timeout=BUILD_PATIENCE_S)
        assert ended.returncode == 0, ended.stderr

    def run(self, client: str, *arguments: object) -> list[dict[str, Any]]:
        """What a client did, from the JSON in its lines."""
        said = _run([str(self._program), client, *map(str, arguments)], 0)
        return [json.loads(line) for line in said.splitlines()]


class Node:
    """`kafkajs.js` of this folder, with kafkajs from npm."""

    def __init__(self) -> None:
        for program in ("node", "npm"):
            if shutil.which(program) is None:
                raise FileNotFoundError(program)
        self._modules = cache_dir().parent / f"kafkajs-{KAFKAJS}"
        if not (self._modules / "node_modules" / "kafkajs").exists():
            self._modules.mkdir(parents=True, exist_ok=True)
            _run(["npm", "install", "--no-save", "--prefix", str(self._modules), f"kafkajs@{KAFKAJS}"], 0)

    def command(self, what: str, *arguments: object) -> list[str]:
        script = Path(__file__).with_name("kafkajs.js")
        path = f"NODE_PATH={self._modules}/node_modules"
        return ["env", path, "node", str(script), what, *map(str, arguments)]

    def __call__(self, what: str, *arguments: object) -> Any:
        """What the script found, from the JSON in the last line."""
        return json.loads(_run(self.command(what, *arguments), 0).splitlines()[-1])


class Spark:
    """Programs in `spark/` on Spark of PyPI, in an environment of its own, with what Maven Central has for
    topics."""

    def __init__(self) -> None:
        for program in ("java", "mvn"):
            if shutil.which(program) is None:
                raise FileNotFoundError(program)
        folder = cache_dir().parent / f"spark-{SPARK}"
        self._python, self._jars = folder / "bin" / "python", folder / "jars"
        if not (folder / "ready").exists():
            print(f"installing Spark {SPARK} (430 MB) …", file=sys.stderr, flush=True)
            _run([sys.executable, "-m", "venv", str(folder)], 0, patience_s=BUILD_PATIENCE_S)
            pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
            _run([*pip, f"pyspark=={SPARK}"], 0, patience_s=BUILD_PATIENCE_S)
            pom = Path(__file__).with_name("spark") / "pom.xml"
            copy = [
                "mvn",
                "-q",
                "-B",
                "-f",
                str(pom),
                f"-Dspark.version={SPARK}",
                "dependency:copy-dependencies",
            ]
            only = f"-DincludeArtifactIds={','.join(SPARK_JARS)}"
            _run([*copy, only, f"-DoutputDirectory={self._jars}"], 0, patience_s=BUILD_PATIENCE_S)
            (folder / "ready").touch()

    def run(self, name: str, *arguments: object) -> Any:
        """What a program found, from the JSON in its last line."""
        settings = {
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": "2",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
        }
        jars = ",".join(map(str, sorted(self._jars.glob("*.jar"))))
        given = ["--master", "local[2]", "--driver-memory", "700m", "--jars", jars]
        for key, value in settings.items():
            given += ["--conf", f"{key}={value}"]
        program = Path(__file__).with_name("spark") / name
        told = f"PYSPARK_SUBMIT_ARGS={' '.join(given)} pyspark-shell"
        command = ["env", told, str(self._python), str(program), *map(str, arguments)]
        return json.loads(_run(command, 0).splitlines()[-1])


class Flink:
    """Programs in `flink/` on Flink of Maven Central, whose cluster runs in the program itself."""

    def __init__(self) -> None:
        for program in ("java", "javac", "mvn"):
            if shutil.which(program) is None:
                raise FileNotFoundError(program)
        folder = cache_dir().parent / f"flink-{FLINK}-{FLINK_KAFKA}"
        self._jars, self._classes = folder / "jars", folder / "classes"
        source = Path(__file__).with_name("flink")
        if not (folder / "ready").exists():
            print(f"resolving Flink {FLINK} with Maven (80 MB) …", file=sys.stderr, flush=True)
            pom = ["mvn", "-q", "-B", "-f", str(source / "pom.xml"), "dependency:copy-dependencies"]
            versions = [f"-Dflink.version={FLINK}", f"-Dconnector.version={FLINK_KAFKA}"]
            _run([*pom, *versions, f"-DoutputDirectory={self._jars}"], 0, patience_s=BUILD_PATIENCE_S)
            (folder / "ready").touch()
        # Compiled, and not run as a source: Flink's threads load its classes by their names.
        compile = ["javac", "-cp", f"{self._jars}/*", "-d", str(self._classes)]
        _run([*compile, *map(str, source.glob("*.java"))], 0)

    def run(self, name: str, *arguments: object) -> Any:
        """What a program found, from the JSON in its last line."""
        java = ["java", "-Xmx700m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        looked_into = ("java.lang", "java.util")  # by Flink's serializers
        java += [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in looked_into]
        java += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", f"{self._jars}/*:{self._classes}"]
        return json.loads(_run([*java, name, *map(str, arguments)], 0).splitlines()[-1])


def _run(command: list[str], code: int | None, input: str = "", *, patience_s: float = 2 * PATIENCE_S) -> str:
    ended = subprocess.run(command, input=input, capture_output=True, text=True, timeout=patience_s)
    said = ended.stdout + ended.stderr
    assert code is None or ended.returncode == code, (
        f"{ended.returncode} from {command[-8:]}:\n{said[-3000:]}"
    )
    return ended.stdout if code == 0 else said
