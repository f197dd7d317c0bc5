"""A bucket of S3, or of a store that speaks its language, as the sink needs it. All of it blocks.

obstore is an extra, `pip install 'raftlog[s3]'`, and imported by the first request: to list the connectors
takes nothing. It signs, and finds credentials where they are not given: in the environment, from a web
identity, from the machine.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from raftlog.connect.errors import ConnectError, Unavailable
from raftlog.connect.options import option
from raftlog.errors import ConfigError

if TYPE_CHECKING:
    from obstore.store import S3Store

PAGE: Final = 1000
"""Objects of one listing: the most that S3 gives."""
STEP_GROWS: Final = 4
WIDTH: Final = 20
"""Digits of an offset, so that names sort as their records do."""
TRIES_MORE: Final = 3
"""How often a request is made again that S3 was too busy for. All else is the worker's to try again."""
CONNECT_SECONDS: Final = 10
_NAME: Final = re.compile(r"/(\d{20})\.[^/]*")
_STATUS: Final = re.compile(r"status code: (\d{3})")
_REASON: Final = re.compile(r"<Code>(\w+)</Code>\s*<Message>([^<]*)")
_PASSING: Final = ("408", "409", "412", "425", "429")
"""Of the statuses that blame the request, those that pass: too slow, too often, another was faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Config:
    bucket: str = option(doc="The bucket. It must be there.")
    region: str | None = option(
        None, doc="Its region: from the environment, or us-east-1, unless it is given."
    )
    endpoint: str | None = option(
        None, doc="Where the store is, when it is not Amazon's: https://HOST, or http:// without TLS."
    )
    access_key_id: str | None = option(
        None, doc="The key's name: from the environment or the machine unless it is given.", secret=True
    )
    secret_access_key: str | None = option(None, doc="The key.", secret=True)
    session_token: str | None = option(None, doc="What a temporary key has as well.", secret=True)
    answer_s: float = option(60.0, doc="How long the store may take for a request, in seconds.", least=1)

    def __post_init__(self) -> None:
        if not self.bucket:
            raise ConfigError("bucket is empty")
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise ConfigError("endpoint begins with https:// or http://")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ConfigError("access_key_id and secret_access_key belong together")


@dataclass(frozen=True, slots=True)
class Found:
    """An object."""

    path: str
    told: dict[str, str]
    """What was said of it when it was made."""


class Taken(Unavailable):
    """There is an object of that name already."""


class Bucket:
    """Objects by their paths."""

    def __init__(self, config: S3Config, *, overwrites: bool) -> None:
        self._config = config
        self._overwrites = overwrites
        self._made: S3Store | None = None

    def __repr__(self) -> str:
        return f"<Bucket {self._config.bucket}>"

    def create(self, path: str, body: bytes, told: dict[str, str]) -> None:
        """Make an object, whole or not at all. Raises Taken, unless this overwrites, Unavailable when it
        is not known whether it is there, and ConnectError."""
        obstore = library()
        try:
            obstore.put(
                self._store(),
                path,
                body,
                attributes=told,
                mode="overwrite" if self._overwrites else "create",
                use_multipart=False,
            )
        except Exception as error:
            raise self._told(error) from error

    def last(self, folder: str) -> Found | None:
        """Of objects whose names begin with digits, the one with the largest. S3 lists forwards only: so one
        page is looked at, and then places ahead, in growing steps and by halves: some 60 requests at most,
        whatever there is. Raises Unavailable and ConnectError."""
        page = self._page(folder, 0)
        last = _last(folder, page)
        if last is None:
            return None
        step, end = 1, 10**WIDTH
        while page and len(page) == PAGE and last.number + 1 < end:
            ahead = min(last.number + step, (last.number + end) // 2)
            page = self._page(folder, ahead)
            found = _last(folder, page)
            if found is None:
                end, page = ahead, [""] * PAGE  # nothing is there, and between there may be something
            else:
                last, step = found, step * STEP_GROWS
        return self._found(last.path)

    def _page(self, folder: str, number: int) -> list[str]:
        """The first objects from a number on."""
        behind = f"{folder}/{number:0{WIDTH}}"
        try:
            listed = library().list(self._store(), prefix=folder, offset=behind, chunk_size=PAGE)
            return [each["path"] for each in next(iter(listed), ())]
        except Exception as error:
            raise self._told(error) from error

    def _found(self, path: str) -> Found:
        try:
            answer = library().get(self._store(), path, options={"head": True})
            return Found(path, {str(name): str(value) for name, value in answer.attributes.items()})
        except Exception as error:
            raise self._told(error) from error

    def _store(self) -> S3Store:
        if self._made is None:
            config = self._config
            given = {
                "region": config.region,
                "endpoint": config.endpoint,
                "access_key_id": config.access_key_id,
                "secret_access_key": config.secret_access_key,
                "session_token": config.session_token,
            }
            library()
            from obstore.store import S3Store

            seconds = datetime.timedelta(seconds=config.answer_s)
            self._made = S3Store(
                config.bucket,
                config=cast("Any", {name: value for name, value in given.items() if value is not None}),
                client_options={
                    "timeout": seconds,
                    "connect_timeout": datetime.timedelta(seconds=min(CONNECT_SECONDS, config.answer_s)),
                    "allow_http": (config.endpoint or "").startswith("http://"),
                },
                retry_config={"max_retries": TRIES_MORE, "retry_timeout": seconds},
            )
        return self._made

    def _told(self, error: Exception) -> Exception:
        """Whose fault an error is. What cannot be reached, or is too busy, may be there later."""
        from obstore.exceptions import AlreadyExistsError, BaseError

        if not isinstance(error, BaseError | FileNotFoundError):
            return error  # the end of a listing, or a mistake of ours
        text = str(error)
        reason, status = _REASON.search(text), _STATUS.search(text)
        told = f"bucket {self._config.bucket}: " + (
            f"{reason[1]}: {reason[2]}" if reason else text.partition("\n")[0][:300]
        )
        if isinstance(error, AlreadyExistsError):
            return Taken(told)
        blames_request = status is not None and status[1][0] == "4" and status[1] not in _PASSING
        return ConnectError(told) if blames_request else Unavailable(told)


@dataclass(frozen=True, slots=True)
class _Numbered:
    path: str
    number: int


def _last(folder: str, page: Sequence[str]) -> _Numbered | None:
    """Whatever else is in the folder is passed over."""
    for path in reversed(page):
        if match := _NAME.fullmatch(path.removeprefix(folder)):
            return _Numbered(path, int(match[1]))
    return None


def library() -> Any:
    """obstore. Raises ConnectError when it is not installed."""
    try:
        import obstore
    except ImportError as error:
        raise ConnectError(f"pip install 'raftlog[s3]' brings what this connector needs: {error}") from error
    return obstore
