"""Toxiproxy: TCP proxies between clients and brokers and on every link between brokers, and what they do to
the bytes.

The only module that knows toxiproxy-python. That library keeps the server's address in the class, has no
time-outs, and takes an answer of 500 for success. So each server gets a class of its own, every request a
time-out, every status is looked at, and after every change the server is asked what it has: a fault that is
not there is none.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import requests

from chaos.faults.fault import CannotRun, Fault, NoEffect
from raftlog.testing.processes import free_port

HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 10.0
REQUEST_TIMEOUT_S: Final = 5.0
VERSIONS: Final = ("2.12.", "git")
"""What the server may say: the second is what `go install` makes of any."""


def server_path() -> str:
    """Where the server is. Raises CannotRun."""
    found = os.environ.get("RAFTLOG_TOXIPROXY") or shutil.which("toxiproxy-server")
    cached = Path.home() / ".cache" / "raftlog" / "toxiproxy-server"
    if not found and cached.exists():
        found = str(cached)
    if not found:
        raise CannotRun("Toxiproxy's server is not there: make toxiproxy, which needs Go")
    try:
        import toxiproxy  # noqa: F401
    except ImportError as error:
        raise CannotRun(f"toxiproxy-python is not there: {error}") from error
    return found


class Toxiproxy:
    """A server of its own, on a free port, with a proxy for each link. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._log = folder / "toxiproxy.log"
        self._server: subprocess.Popen[bytes] | None = None
        self._listen: dict[str, str] = {}

    def __enter__(self) -> Toxiproxy:
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(
                [server_path(), "-host", HOST, "-port", str(self._port)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                version = self._ask("GET", "/version")
                break
            except OSError as error:
                if self._server.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    raise CannotRun(f"Toxiproxy's server does not answer: {error}") from error
                time.sleep(0.05)
        if not any(one in str(version) for one in VERSIONS):
            self.__exit__()
            raise CannotRun(f"Toxiproxy's server is {version}, not 2.12: make toxiproxy")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()

    def add(self, name: str, upstream: str) -> str:
        """A proxy to an address; the address at which it listens. A port stays its own for life."""
        listen = f"{HOST}:{free_port()}"
        self._ask("POST", "/proxies", {"name": name, "upstream": upstream, "listen": listen, "enabled": True})
        self._expect(name, enabled=True, toxics=[])
        self._listen[name] = listen
        return listen

    def enable(self, name: str, is_enabled: bool) -> None:
        """A proxy that is not enabled refuses connections, and has closed those that were."""
        self._ask("POST", f"/proxies/{name}", {"enabled": is_enabled})
        self._expect(name, enabled=is_enabled)
        if _is_listening(self._listen[name]) != is_enabled:
            raise NoEffect(f"proxy {name} is said to be {'on' if is_enabled else 'off'}, and is not")

    def poison(self, name: str, kind: str, stream: str, toxicity: float = 1.0, **attributes: int) -> None:
        """A toxic: one of latency, bandwidth, slow_close, timeout, reset_peer, slicer, limit_data."""
        toxic = {
            "name": f"{kind}_{stream}",
            "type": kind,
            "stream": stream,
            "toxicity": toxicity,
            "attributes": attributes,
        }
        self._ask("POST", f"/proxies/{name}/toxics", toxic)
        found = [one for one in self._proxy(name)["toxics"] if one["name"] == toxic["name"]]
        if not found or any(found[0]["attributes"].get(key) != value for key, value in attributes.items()):
            raise NoEffect(f"proxy {name} should have {toxic}, the server says {found}")

    def cure(self, name: str) -> None:
        """Take every toxic away and enable it."""
        for toxic in self._proxy(name)["toxics"]:
            self._ask("DELETE", f"/proxies/{name}/toxics/{toxic['name']}")
        self._ask("POST", f"/proxies/{name}", {"enabled": True})
        self._expect(name, enabled=True, toxics=[])

    def _proxy(self, name: str) -> Mapping[str, Any]:
        proxy: Mapping[str, Any] = self._ask("GET", f"/proxies/{name}")
        return proxy

    def _expect(self, name: str, **fields: object) -> None:
        proxy = self._proxy(name)
        wrong = {key: proxy.get(key) for key, value in fields.items() if proxy.get(key) != value}
        if wrong:
            raise NoEffect(f"proxy {name}: the server says {wrong}, not {fields}")

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        """Raises OSError, also for an answer that the library would take for success."""
        api = _api(self._port)
        call = {"GET": api.get, "POST": api.post, "DELETE": api.delete}[method]
        arguments: dict[str, Any] = {"timeout": REQUEST_TIMEOUT_S}
        if body is not None:
            arguments["json"] = body
        answer: requests.Response = call(path, **arguments)
        if not answer.ok:
            raise OSError(f"{method} {path}: {answer.status_code} {answer.text.strip()}")
        return answer.json() if answer.content else None


def _api(port: int) -> Any:
    """The library's way to one server: a class of its own, since the address is the class's."""
    from toxiproxy.api import APIConsumer

    return type("Api", (APIConsumer,), {"host": HOST, "port": port})


def _is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as sock:
        sock.settimeout(REQUEST_TIMEOUT_S)
        return sock.connect_ex((host, int(port))) == 0


class Toxic(Fault):
    """A toxic on some proxies, in one direction or both."""

    kind = "toxic"

    def __init__(
        self,
        proxies: Toxiproxy,
        what: str,
        brokers: Iterable[int],
        names: Iterable[str],
        kind: str,
        *,
        streams: Iterable[str] = ("upstream", "downstream"),
        toxicity: float = 1.0,
        **attributes: int,
    ) -> None:
        super().__init__(what, list(brokers))
        self._proxies, self._names = proxies, list(names)
        self._toxic, self._streams, self._toxicity = kind, list(streams), toxicity
        self._attributes = attributes

    def begin(self) -> None:
        for name in self._names:
            for stream in self._streams:
                self._proxies.poison(name, self._toxic, stream, self._toxicity, **self._attributes)

    def end(self) -> str:
        for name in self._names:
            self._proxies.cure(name)
        return f"{self._toxic} {self._attributes} on {len(self._names)} proxies, as the server said"


class Refused(Fault):
    """Proxies that close what goes through them and refuse more."""

    kind = "refused"

    def __init__(self, proxies: Toxiproxy, what: str, brokers: Iterable[int], names: Iterable[str]) -> None:
        super().__init__(what, list(brokers))
        self._proxies, self._names = proxies, list(names)

    def begin(self) -> None:
        for name in self._names:
            self._proxies.enable(name, False)

    def end(self) -> str:
        for name in self._names:
            self._proxies.enable(name, True)
        return f"{len(self._names)} proxies refused connections"
