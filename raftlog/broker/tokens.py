"""OAUTHBEARER (KIP-768): who a token is of, by the keys of whoever issues them. It fails closed.

Nothing is taken that the settings do not name: without keys, issuer and audience a broker does not start. A
token is signed by a key pair, and names when it ends, whom it is of and for whom. One that is signed with a
shared secret, or not at all, is none. What a client sends names no file, no address, and no algorithm but
those of a list.
"""

from __future__ import annotations

import json
import logging
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Final

import trio

from raftlog.config import BrokerConfig
from raftlog.errors import ConfigError, InvalidInput
from raftlog.net.hosts import is_this_machine

if TYPE_CHECKING:
    from jwt import PyJWK

ALGORITHMS: Final = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
"""By the type of the key: all are of key pairs."""
REQUIRED: Final = ("exp", "iat", "sub", "iss", "aud")
FETCH_TIMEOUT_S: Final = 5.0
KEYS_BYTES_MAX: Final = 256 * 1024
KEYS_MAX: Final = 100
UNKNOWN_EVERY_S: Final = 10.0
"""A token of a key that is not known has the keys fetched again, so often at most."""
SUBJECT_CHARACTERS_MAX: Final = 255

_URL: Final = "sasl.oauthbearer.jwks.endpoint.url"
_NEEDED: Final = (_URL, "sasl.oauthbearer.expected.issuer", "sasl.oauthbearer.expected.audience")

log = logging.getLogger("raftlog.broker")


class Tokens:
    """The keys, and what is expected of a token."""

    def __init__(self, config: BrokerConfig) -> None:
        """Raises ConfigError for settings that leave something open."""
        missing = [name for name in _NEEDED if not config[name]]
        if missing:
            raise ConfigError(f"OAUTHBEARER needs {', '.join(missing)}: without, anybody's token would do")
        try:
            import jwt  # noqa: F401
        except ImportError as error:
            raise ConfigError("OAUTHBEARER takes a package: pip install 'raftlog[security]'") from error
        self._url = checked_url(config.str(_URL))
        self._issuer = config.str(_NEEDED[1])
        self._audience = list(config.list(_NEEDED[2]))
        self._skew_s = config.int("sasl.oauthbearer.clock.skew.seconds")
        self._refresh_s = config.int("sasl.oauthbearer.jwks.endpoint.refresh.ms") / 1000
        self._keys: dict[str | None, PyJWK] = {}
        self._asked_at = float("-inf")
        self._asking = trio.Lock()

    def __repr__(self) -> str:
        return f"<Tokens of {self._issuer} {len(self._keys)} keys>"

    def load(self) -> None:
        """Get the keys, before anybody is served. Blocking. Raises ConfigError: no token could be checked."""
        try:
            self._keys = _keys_at(self._url)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{_URL} = {self._url!r}: no keys: {error}") from None

    async def keep_fresh(self) -> None:
        """Get the keys again from time to time, until cancelled. If that fails, those that are known stay."""
        while True:
            await trio.sleep(self._refresh_s)
            await self._refresh()

    async def check(self, token: str) -> tuple[str, float]:
        """Whom a token is of, and for how many seconds from now it is good. Raises InvalidInput, without a
        word of the token."""
        import jwt

        try:
            name = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError:
            raise InvalidInput("OAUTHBEARER: the token is none: three parts with dots between") from None
        key = await self._key(name)
        try:
            claims = self._claims(token, key, expires=True)
        except jwt.ExpiredSignatureError:
            ended = self._claims(token, key, expires=False)["exp"]
            raise InvalidInput(
                f"the token expired at {_clock(ended)}, this broker's clock says {_clock(time.time())}"
            ) from None
        except jwt.ImmatureSignatureError:
            now = _clock(time.time())
            raise InvalidInput(f"the token is not good yet; this broker's clock says {now}") from None
        except jwt.InvalidAudienceError:
            expected = ", ".join(self._audience)
            raise InvalidInput(f"the token is not for this broker, which is {expected!r} (aud)") from None
        except jwt.InvalidIssuerError:
            raise InvalidInput(f"the token is not of {self._issuer!r} (iss)") from None
        except jwt.MissingRequiredClaimError as error:
            raise InvalidInput(f"the token lacks {error.claim!r}") from None
        except jwt.PyJWTError:
            raise InvalidInput("the token is not signed by a key of its issuer") from None
        subject = claims["sub"]
        is_name = isinstance(subject, str) and subject.isprintable()  # the log names who it is about
        if not is_name or not 0 < len(subject) <= SUBJECT_CHARACTERS_MAX:
            raise InvalidInput("the token's subject is no name of a user")
        return subject, max(0.0, float(claims["exp"]) - time.time())

    def _claims(self, token: str, key: PyJWK, *, expires: bool) -> dict[str, Any]:
        import jwt

        found: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=list(ALGORITHMS[key.key_type or ""]),
            audience=self._audience,
            issuer=self._issuer,
            leeway=self._skew_s,
            options={"require": list(REQUIRED), "verify_exp": expires},
        )
        return found

    async def _key(self, name: object) -> PyJWK:
        """The key of a name; the only one there is for a token that names none."""
        known = self._find(name)
        if known is None and trio.current_time() - self._asked_at >= UNKNOWN_EVERY_S:
            await self._refresh()
            known = self._find(name)
        if known is None:
            shown = repr(name)[:60] if isinstance(name, str) else "without a name"
            raise InvalidInput(f"the token's issuer has no key {shown}")
        return known

    def _find(self, name: object) -> PyJWK | None:
        if name is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(name) if isinstance(name, str) else None

    async def _refresh(self) -> None:
        async with self._asking:
            if trio.current_time() - self._asked_at < UNKNOWN_EVERY_S:
                return
            self._asked_at = trio.current_time()
            try:
                self._keys = await trio.to_thread.run_sync(_keys_at, self._url, abandon_on_cancel=True)
            except (OSError, ValueError) as error:
                log.warning("the keys of tokens are not renewed, those that are known stay: %s", error)


def checked_url(url: str) -> str:
    """Raises ConfigError for an address that others could answer for."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file" or (parts.scheme == "https" and parts.hostname):
        return url
    if parts.scheme == "http" and is_this_machine(parts.hostname or ""):
        return url
    raise ConfigError(f"{_URL} = {url!r}: it is https://… or file://…")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _keys_at(url: str) -> dict[str | None, PyJWK]:
    """The keys by name. Blocking. Raises OSError or ValueError."""
    import jwt

    opener = urllib.request.build_opener(
        _NoRedirects, urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )
    try:
        with opener.open(url, timeout=FETCH_TIMEOUT_S) as answer:
            data = answer.read(KEYS_BYTES_MAX + 1)
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"HTTP status {error.code}") from None
    if len(data) > KEYS_BYTES_MAX:
        raise ValueError(f"more than {KEYS_BYTES_MAX} bytes")
    found = json.loads(data)
    rows = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(rows, list) or len(rows) > KEYS_MAX:
        raise ValueError("it is no set of keys (RFC 7517)")
    keys: dict[str | None, PyJWK] = {}
    for row in rows:
        if isinstance(row, dict) and row.get("kty") in ALGORITHMS and row.get("use", "sig") == "sig":
            try:
                keys[row.get("kid")] = jwt.PyJWK.from_dict(row)
            except jwt.PyJWTError:
                continue  # of a kind that is not known here
    if not keys:
        raise ValueError("there is no key in it that signs tokens")
    return keys


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(at))
