"""Whether a broker lives, and whether it serves: what an orchestrator asks.

Alive is a broker whose event loop turns, whatever the cluster does: who is started again because a majority
is missing makes that worse. Ready is one that serves. Once it was, it is so until it hands over or is without
a metadata leader for longer than elections take.
"""

from __future__ import annotations

import time
from typing import Any, Final

import trio

from raftlog.http.messages import TEXT, Request, Response
from raftlog.http.view import View
from raftlog.version import version

LEADERLESS_S: Final = 10.0
"""How long nobody may lead the metadata before this broker says that it is not ready."""
POLL_S: Final = 0.25
Check = dict[str, Any]


class Probes:
    """Answers them."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._led_at = time.monotonic()

    async def watch(self) -> None:
        """Note when the metadata was led last. Until cancelled."""
        while True:
            if self._view.inside.metadata.leader is not None:
                self._led_at = time.monotonic()
            await trio.sleep(POLL_S)

    def checks(self) -> list[Check]:
        """What has to be so, and what is not, in words."""
        view, inside = self._view, self._view.inside
        metadata = inside.metadata
        leaderless_s = 0.0 if metadata.leader is not None else time.monotonic() - self._led_at
        has_leader = metadata.leader is not None or (view.is_serving and leaderless_s < LEADERLESS_S)
        why = "" if has_leader else inside.waiting.why_nobody_leads()
        if not has_leader and view.is_serving:
            why = f"for {leaderless_s:.0f} s {why}"
        return [
            _check("registered", inside.replicas.registered_index is not None, "the cluster takes it in"),
            _check("metadata", has_leader, why),
            _check(
                "caught_up",
                view.is_serving or metadata.is_caught_up,
                "the metadata of before the start is being applied",
            ),
            _check(
                "leaders",
                view.is_serving or not (has_leader and inside.replicas.registered_index is not None),
                "the leaders of all partitions are waited for",
            ),
            _check("stopping", not view.stopping.is_set(), "the broker hands its leaderships over and stops"),
        ]

    @property
    def is_ready(self) -> bool:
        return self._view.is_serving and all(check["ok"] for check in self.checks())

    @property
    def status(self) -> str:
        if self._view.stopping.is_set():
            return "stopping"
        if not self._view.is_serving:
            return "starting"
        return "ready" if self.is_ready else "not ready"

    async def livez(self, request: Request) -> Response:
        uptime = time.monotonic() - self._view.started_at
        broker = self._view.inside.me.id
        return Response.of(
            {"status": "ok", "broker": broker, "uptime_s": round(uptime, 1), "version": version()}
        )

    async def readyz(self, request: Request) -> Response:
        checks, status = self.checks(), self.status
        code = 200 if status == "ready" else 503
        if "text/plain" in request.headers.get("accept", ""):
            lines = [f"broker {self._view.inside.me.id} is {status}"]
            lines += [f"{check['name']}: {check['detail']}" for check in checks if not check["ok"]]
            return Response(status=code, content_type=TEXT, body="\n".join([*lines, ""]).encode())
        return Response.of({"status": status, "broker": self._view.inside.me.id, "checks": checks}, code)

    async def status_ready(self, request: Request) -> Response:
        """Redpanda's name for it."""
        if self.is_ready:
            return Response.of({"status": "ready"})
        return Response.of({"status": "booting"}, 503)


def _check(name: str, ok: bool, detail: str) -> Check:
    return {"name": name, "ok": ok} if ok else {"name": name, "ok": False, "detail": detail}
