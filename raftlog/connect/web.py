"""What the HTTP connectors share: a client, what it is told, and whose fault an answer is.

httpx2 is an extra, `pip install 'raftlog[http]'`: it runs on Trio, keeps connections, knows proxies, and
trusts whom the system trusts. It is imported by the first request: to list the connectors takes nothing.

An address may hold a token, as those of web hooks do: what is told names its host alone.
"""

from __future__ import annotations

import datetime
import email.utils
import ssl
import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from raftlog.connect.errors import ConnectError, Unavailable
from raftlog.connect.options import option
from raftlog.errors import ConfigError

CONNECT_SECONDS: Final = 10.0
ANSWER_BYTES_MAX: Final = 64 << 20
"""A longer answer ends a connector: it would be held in memory as a whole."""
TOLD_LENGTH_MAX: Final = 200
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~" + string.ascii_letters + string.digits)
RETRY_ON: Final = ("408", "425", "429", "500", "502", "503", "504")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    url: str = option(doc="The address: https://HOST/PATH.", secret=True)
    authorization: str | None = option(
        None, doc="The header Authorization: Bearer ${env:TOKEN}.", secret=True
    )
    headers: tuple[str, ...] = option((), doc="More headers, each as NAME: VALUE.", secret=True)
    ca_file: str | None = option(
        None, doc="Certificates of authorities to trust, instead of those that the system trusts."
    )
    answer_s: float = option(30.0, doc="How long the server may take for an answer, in seconds.", least=0.1)
    retry_on: tuple[str, ...] = option(RETRY_ON, doc="Statuses after which it is tried again.")

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            has_user = "@" in parts.netloc
            self.url.encode()
        except ValueError:
            is_right = has_user = False
        if not is_right:
            raise ConfigError("url is no address of a web server")
        if has_user:
            raise ConfigError("url has a user: give that as authorization")
        for number, header in enumerate(self.headers, 1):
            name, colon, value = header.partition(":")
            if not colon or not is_token(name.strip()) or any(c in "\r\n\0" for c in value):
                raise ConfigError(f"headers: number {number} is no NAME: VALUE")
            check_header(f"headers: number {number}", value)
        check_header("authorization", self.authorization or "")
        check_statuses("retry_on", self.retry_on)


def is_token(name: str) -> bool:
    """Whether a header can be called so (RFC 9110 §5.6.2)."""
    return bool(name) and set(name) <= _TOKEN


def check_header(name: str, value: str) -> None:
    """Raises ConfigError for what no header can have. It may be a secret, and is not told."""
    if any(c in "\r\n\0" for c in value):
        raise ConfigError(f"{name} has a line feed")
    if not value.isascii():
        raise ConfigError(f"{name} has a letter that is not of ASCII, and a header has no others")


def check_statuses(name: str, statuses: Collection[str]) -> None:
    """Raises ConfigError for what is no status."""
    for each in statuses:
        if not (each.isdecimal() and len(each) == 3 and "300" <= each <= "599"):
            raise ConfigError(f"{name} has {each!r}, which is no status from 300 to 599")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    """Names are found in any case."""
    body: bytes

    @property
    def is_good(self) -> bool:
        """2xx."""
        return 200 <= self.status < 300

    def told(self) -> str:
        """The status, and how the text begins."""
        text = " ".join(self.body[: 4 * TOLD_LENGTH_MAX].decode("utf-8", "replace").split())
        return f"answers {self.status}" + (f": {text[:TOLD_LENGTH_MAX]}" if text else "")


class Web:
    """A client of one server, made by the first request."""

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self._client: Any = None
        self._opening = trio.Lock()
        parts = urlsplit(config.url)
        self.origin = f"{parts.scheme}://{parts.netloc}"

    def __repr__(self) -> str:
        return f"<Web {self.origin}>"

    async def ask(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None = None
    ) -> Answer:
        """One request, and its whole answer; redirects are answers. Raises Unavailable when there is none,
        and for the statuses of `retry_on`; ConnectError for one that is too long. Cancelled, whether the
        server has taken it is not known."""
        async with self._opening:
            if self._client is None:
                self._client = await trio.to_thread.run_sync(self._made)
        answer = None
        with trio.move_on_after(self._config.answer_s):
            answer = await self._answer(method, url, headers, content)
        if answer is None:
            raise Unavailable(f"{self.origin} has not answered within {self._config.answer_s:g} s")
        if str(answer.status) in self._config.retry_on:
            raise Unavailable(f"{self.origin} {answer.told()}", after_s=_after(answer))
        return answer

    async def _answer(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> Answer:
        httpx = library()
        try:
            async with self._client.stream(method, url, headers=headers, content=content) as response:
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > ANSWER_BYTES_MAX:
                        raise ConnectError(
                            f"{self.origin} answers with more than {ANSWER_BYTES_MAX} bytes: ask for less"
                        )
                return Answer(response.status_code, response.headers, bytes(body))
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeEncodeError):
            raise ConnectError(f"{self.origin}: the address cannot be asked") from None
        except (httpx.RequestError, ssl.SSLError) as error:
            reason = str(error).replace(url, self.origin) or type(error).__name__
            raise Unavailable(f"{self.origin}: {reason}") from None  # its cause would name the address

    def _made(self) -> Any:
        """In a thread: to import it, and to read certificates, takes time."""
        httpx, config = library(), self._config
        headers = {"User-Agent": "raftlog"} | dict(map(_header, config.headers))
        if config.authorization is not None:
            headers["Authorization"] = config.authorization
        return httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            verify=True if config.ca_file is None else _trusting(config.ca_file),
            follow_redirects=False,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _header(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name.strip(), value.strip()


def _trusting(path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # an SSLError is one
        raise ConnectError(f"ca_file = {path!r}: {error}") from error


def _after(answer: Answer) -> float:
    """Seconds that Retry-After asks for: a number, or a date."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # a year may have any number of digits
        return 0.0
    now = datetime.datetime.now(at.tzinfo)
    return max(0.0, (at - now).total_seconds())


def library() -> ModuleType:
    """httpx2. Raises ConnectError when it is not installed."""
    try:
        import httpx2
    except ImportError as error:
        raise ConnectError(
            f"pip install 'raftlog[http]' brings what this connector needs: {error}"
        ) from error
    return httpx2
