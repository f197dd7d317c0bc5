"""Scenario 59 of security: a secret that is set is shown nowhere, whatever is wrong beside it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftlog.broker.authentication import Login
from raftlog.config import BrokerConfig
from raftlog.config.describe import describe_broker
from raftlog.config.keys import ConfigType
from raftlog.config.table import BROKER_CONFIGS
from raftlog.errors import ConfigError
from raftlog.metadata.user_table import Credential
from raftlog.metadata.users import AlterCredentials, NewCredential
from raftlog.protocol.sasl import PlainMessage

MARKER = "h4rd-to-guess"
SECRETS = [name for name, key in BROKER_CONFIGS.items() if key.type is ConfigType.PASSWORD]
TLS = {"listeners": "SSL://127.0.0.1:9093"}


@pytest.mark.parametrize("name", [*SECRETS, *(f"listener.name.ssl.{name}" for name in SECRETS)])
def test_a_secret_that_is_in_force_is_not_shown(name: str) -> None:
    config = BrokerConfig.of(TLS | {name: MARKER}, {name: "command line"})
    own = config.for_listener("SSL")
    shown = [repr(config), repr(own), *map(repr, describe_broker(config)), *map(repr, describe_broker(own))]
    assert MARKER not in "".join(shown)


def mistakes(name: str) -> Iterator[tuple[str, str]]:
    """(the end of a file's name, what is in it)"""
    misspelt = name.replace("password", "pasword")
    yield ".properties", f"{misspelt}={MARKER}\n"
    yield ".properties", f"listener.name.ssl.{misspelt}={MARKER}\n"
    yield ".properties", f"listener.name.nowhere.{name}={MARKER}\nlisteners=SSL://127.0.0.1:1\n"
    yield ".properties", f'sasl.jaas.config=PlainLoginModule required password="{MARKER}";\n'
    yield ".properties", f"{name}={MARKER}\nnode.id=x\n"
    yield ".properties", f"{MARKER}\n"
    yield ".toml", f'"{misspelt}" = "{MARKER}"\n'
    yield ".toml", f'"{name}" = "{MARKER}\n'
    yield ".toml", f'"{name}" = {MARKER}\n'
    yield ".toml", f'"{name}" = "{MARKER}"\n"{name}" = "{MARKER}"\n'
    yield ".toml", f'"{name}" = ["{MARKER}", 2020-01-01]\n'


@pytest.mark.parametrize("name", SECRETS)
def test_a_mistake_near_a_secret_does_not_show_it(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for number, (suffix, text) in enumerate(mistakes(name)):
        path = tmp_path / f"{number}{suffix}"
        path.write_text(text)
        with pytest.raises(ConfigError) as raised:
            BrokerConfig.load(path)
        chain = [raised.value, raised.value.__cause__]
        assert MARKER not in "".join(f"{each} {each!r}" for each in chain), text
    for override in (f"{name} {MARKER}", f"={MARKER}", f"{name[:-1]}={MARKER}"):
        with pytest.raises(ConfigError) as raised:
            BrokerConfig.load(overrides=[override])
        assert MARKER not in str(raised.value), override
    assert MARKER not in caplog.text


def test_no_message_or_command_shows_what_it_has() -> None:
    secret = MARKER.encode()
    new = NewCredential("alice", "SCRAM-SHA-256", b"salt", 4096, secret, secret)
    command = AlterCredentials(phantom_key=secret, put=(new,))
    known = Credential(b"salt", 4096, secret, secret)
    for one in (PlainMessage("alice", secret), new, command, known, Login("alice", "SCRAM-SHA-256", known)):
        assert MARKER not in f"{one!r} {one}", type(one)
