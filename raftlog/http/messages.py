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

STATUS_OF: Final = {
    "BAD_REQUEST": 400,
    "UNAUTHENTICATED": 401,
    "FORBIDDEN": 403,
    "READ_ONLY": 403,
    "NOT_FOUND": 404,
    "TOO_LARGE": 413,
    "TIMED_OUT": 504,
}
"""The codes that are not Kafka's."""


class Refusal(Exception):
    """A request that is not served, with what the client is told. `code` is Kafka's name of an error, or
    one of STATUS_OF."""

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
    stream: Callable[[Send], Awaitable[None]] | None = field(default=None)

    @classmethod
    def of(cls, value: object, status: int = 200, *, headers: tuple[tuple[str, str], ...] = ()) -> Response:
        """A value as JSON. It should be small: it is encoded in one go."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        return cls(status=status, body=body, headers=headers)


def parse_target(target: bytes) -> tuple[tuple[str, ...], dict[str, str]]:
    """The path's segments and the query of a request target in origin form. Raises Refusal for every other
    form, and for paths that are written so as to mean something else to somebody."""
    if not target.startswith(b"/"):
        raise bad_request("the target is a path: /livez")
    path, _, query = target.partition(b"?")
    segments = tuple(map(_decoded, path[1:].split(b"/"))) if path != b"/" else ()
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
    if len(dict(pairs)) < len(pairs):
        raise bad_request("a parameter is given twice")
    return segments, dict(pairs)


def _decoded(segment: bytes) -> str:
    try:
        text = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_request("the path is not UTF-8") from error
    if text in ("", ".", "..") or any(c in "/\\;" or ord(c) < 32 for c in text):
        raise bad_request("the path holds an empty segment, dots, or a character that belongs in none")
    return text
