"""The command line as a whole, without a broker: help, usage errors, exit codes, what is printed."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from raftlog.cli import COMMANDS, main, streams
from raftlog.cli.output import counted, print_table
from raftlog.streams.topology import App


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None, name
            yield from _commands(inner, (*path, name))


PATHS = list(_commands(main))


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0, result.output
    assert (
        " ".join(("raftlog", *path)) in result.output.split("Options:")[1] + result.output.split("\n\n", 1)[1]
    )
    assert all(len(line) <= 100 for line in result.output.splitlines())


def test_there_are_the_commands_that_are_promised() -> None:
    assert {"serve", "topic", "produce", "consume", "group", "bench", "log"} <= set(COMMANDS)
    assert {("topic", name) for name in ("create", "list", "describe", "alter", "delete")} <= set(PATHS)
    assert {("group", name) for name in ("list", "describe", "seek", "delete")} <= set(PATHS)
    assert {("log", name) for name in ("dump", "verify", "metadata")} <= set(PATHS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["consum", "orders"], "there is no command 'consum'; did you mean 'consume'?"),
        (["topic", "crate", "orders"], "there is no command 'crate'; did you mean 'create'?"),
        (["topic", "xyzzy"], "there is no command 'xyzzy': alter, create, delete, describe, list"),
        (["topic", "create"], "missing argument 'NAME' (see raftlog topic create --help)"),
        (["topic", "create", "t", "-p", "0"], "0 is not in the range"),
        (["topic", "create", "t", "-c", "retention"], "'retention' is not KEY=VALUE"),
        (["topic", "alter", "t"], "nothing to change"),
        (["consume", "t", "--from-begining"], "--from-beginning"),
        (["consume", "t", "-o", "start"], "'start' is no place to start: beginning, end,"),
        (["consume", "t", "-o", "stored"], "-o stored needs --group"),
        (["consume", "t", "-o", "5", "--group", "g"], "raftlog group seek"),
        (["consume", "t", "-o", "end", "--from-beginning"], "say different things"),
        (["consume", "t", "-o", "5", "-g", "g"], "raftlog group seek"),
        (["serve", "--port", "9093"], "no such option: --port; did you mean --listen 127.0.0.1:9093?"),
        (["consume", "t", "-f", "%q"], "%q means nothing"),
        (["produce", "t", "-z", "brotli"], "'brotli' is not one of"),
        (["produce", "t", "-K", ""], "the delimiter is empty"),
        (["group", "seek", "g", "t", "--to", "soon"], "'soon' is none of: earliest, latest"),
        (["group", "seek", "g", "t"], "missing option '--to'"),
        (["topic", "list", "--config", "/nowhere"], "'/nowhere' does not exist"),
        (["log", "verify", "/nowhere"], "'/nowhere' does not exist"),
        (["log", "dump", ".", "orders-0", "--wal"], "give --wal or LOG"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exits_with_2(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("raftlog")


@pytest.mark.parametrize(
    "arguments", [["registry"], ["connect", "serve"], ["streams", "run", f"{__file__}:app"]]
)
def test_who_cannot_serve_http_says_so_before_any_broker_is_asked(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "load", lambda named: App("app"))
    (tmp_path / "short").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        at = [*arguments, "--listen", f"127.0.0.1:{port}"]
        result = CliRunner().invoke(main, at)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr
        result = CliRunner().invoke(main, [*at, "--token-file", str(tmp_path / "short")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--token-file = '{tmp_path}/short': a token is at least 16" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["topic", "list", "-b", "nowhere"], "'nowhere' is not host:port"),
        (["topic", "list", "-b", "nowhere.invalid:9092"], "there is no host 'nowhere.invalid'"),
        (["log", "verify", "."], "is no data folder of a broker: there is no meta.toml in it"),
    ],
)
def test_a_failure_is_one_line_and_exits_with_1(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("raftlog")


def test_no_broker_is_said_at_once_with_what_to_do() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else takes it
        result = CliRunner().invoke(main, ["topic", "list", "-b", f"127.0.0.1:{sock.getsockname()[1]}"])
    assert result.exit_code == 1
    assert "nobody listens there" in result.stderr
    assert "raftlog serve" in result.stderr and "--bootstrap" in result.stderr


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it is an HTTP server"),
        (b"\x15\x03\x01\x00\x02\x02\x46\x00", "it wants TLS"),
        (b"220 mail.example ESMTP\r\n", "does not speak Kafka's protocol"),
        (b"", "closes the connection without a word"),
    ],
)
def test_the_wrong_port_is_recognized(answer: bytes, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(1024)
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        result = CliRunner().invoke(main, ["topic", "list", "-b", f"127.0.0.1:{server.getsockname()[1]}"])
        thread.join()
    assert result.exit_code == 1
    assert said in result.stderr


def test_the_program_runs_as_a_module_and_knows_its_version() -> None:
    command = [sys.executable, "-m", "raftlog", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("raftlog ")


def test_tables_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "COUNT"), [("a", 1), ("longer", 1200), ("none", None)])
    assert capsys.readouterr().out.splitlines() == [
        "NAME    COUNT",
        "a           1",
        "longer   1200",
        "none        -",
    ]


def test_things_are_counted() -> None:
    assert [counted(0, "record"), counted(1, "record"), counted(1200, "record")] == [
        "0 records",
        "1 record",
        "1,200 records",
    ]
    assert counted(2, "batch", "batches") == "2 batches"
