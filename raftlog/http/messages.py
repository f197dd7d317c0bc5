"""What a client asks over HTTP, and what it is answered."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_to_bytes

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
PARAMETERS_MAX: Final = 32

Send = Callable[[bytes], Awaitable[None]]
"""Gives bytes to the client, and waits until the system has taken them. Raises when it does not."""

Stream = Callable[[Send], Awaitable[None]]
"""Writes a body for as long as it likes."""


class Refusal(Exception):
    """A request that is not served, with what the client is told. `code` is Kafka's name of an error, or
    one of HTTP's own, such as BAD_REQUEST."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retriable: bool = False,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retriable = retriable
        self.headers = headers

    @property
    def response(self) -> Response:
        error = {"code": self.code, "message": str(self), "retriable": self.retriable}
        return Response.of({"error": error}, self.status, headers=self.headers)


def json_of(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def bad_request(message: str) -> Refusal:
    return Refusal(400, "BAD_REQUEST", message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A request before its body. `path` is in decoded segments; header names are in small letters."""

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    peer: str
    """The client's address."""

    def int(self, name: str, default: int, low: int, high: int) -> int:
        """A number of the query. Raises Refusal for what is none, or out of its range."""
        text = self.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 19 and low <= int(text) <= high):
            raise bad_request(f"{name}={text[:40]!r}: it is a number from {low} to {high}")
        return int(text)

    def text(self, name: str, default: str = "", *, choices: tuple[str, ...] = ()) -> str:
        text = self.query.get(name, default)
        if choices and text not in choices:
            raise bad_request(f"{name}={text[:40]!r}: it is one of {', '.join(choices)}")
        return text

    def required(self, name: str) -> str:
        text = self.query.get(name)
        if text is None:
            raise bad_request(f"the parameter {name} is missing")
        return text

    def flag(self, name: str) -> bool:
        return self.text(name, "0", choices=("0", "1")) == "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Head):
    """All of it."""

    body: bytes = b""

    def json(self) -> dict[str, Any]:
        """The body as an object; empty for no body. Raises Refusal for anything else."""
        if not self.body:
            return {}
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise bad_request(f"the body is no JSON: {error}") from error
        if not isinstance(value, dict):
            raise bad_request("the body is no JSON object")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """`stream` writes a body whose length is not known, instead of `body`."""

    status: int = 200
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    stream: Stream | None = field(default=None)

    @classmethod
    def of(cls, value: object, status: int = 200, *, headers: tuple[tuple[str, str], ...] = ()) -> Response:
        """A value as JSON. It should be small: it is encoded in one go."""
        body = json_of(value).encode("utf-8", "replace")
        return cls(status=status, body=body, headers=headers)


def parse_target(
    target: bytes, *, anything: bool = False, repeats: bool = False
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The path's segments and the query of a request target in origin form. Raises Refusal for every other
    form, and for paths that are written so as to mean something else to somebody, unless segments may hold
    `anything`. Of a parameter that `repeats` the values are joined by commas."""
    if not target.startswith(b"/"):
        raise bad_request("the target is a path: /livez")
    path, _, query = target.partition(b"?")
    parts = path[1:].split(b"/") if path != b"/" else []
    segments = tuple(_decoded(part, anything=anything) for part in parts)
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=PARAMETERS_MAX,
        )
    except ValueError as error:
        raise bad_request(f"the query is not name=value&…: {error}") from error
    query_of: dict[str, str] = {}
    for name, value in pairs:
        if name in query_of and not repeats:
            raise bad_request("a parameter is given twice")
        query_of[name] = f"{query_of[name]},{value}" if name in query_of else value
    return segments, query_of


def _decoded(segment: bytes, *, anything: bool) -> str:
    try:
        text = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_request("the path is not UTF-8") from error
    if not anything and _means_more(text):
        raise bad_request("the path holds an empty segment, dots, or a character that belongs in none")
    return text


def _means_more(text: str) -> bool:
    """Whether a segment is one that somebody may take for another path."""
    return text in ("", ".", "..") or any(c in "/\\;" or ord(c) < 32 for c in text)
