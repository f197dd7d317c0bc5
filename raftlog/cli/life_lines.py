"""What a broker's log says of the broker's life: the settings at the start, that clients are served, the
reason of the end.

The logger is `raftlog.life`; its lines are shown unless `raftlog.log.levels` says otherwise.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from raftlog.cli.output import counted
from raftlog.config import BROKER_CONFIGS, BrokerConfig
from raftlog.errors import DiskFull, RaftlogError
from raftlog.version import build

if TYPE_CHECKING:
    from raftlog.broker.server import Broker

log = logging.getLogger("raftlog.life")

MIB: Final = 1 << 20
_SAID_APART: Final = frozenset({"node.id", "log.dirs"})


def starts(config: BrokerConfig) -> None:
    """Before the data folder is opened, which may take a while."""
    log.info(
        "raftlog %s starts as broker %d, process %d, on Python %s; its data is in %s",
        build(), config.int("node.id"), os.getpid(), platform.python_version(), _folder(config),
    )  # fmt: skip
    settings = "; ".join(differing(config)) or "none"
    log.info("settings that are not the defaults: %s", settings)


def differing(config: BrokerConfig) -> Iterator[str]:
    """Each setting that is not as it would be anyway, with where it was given. No secret is shown."""
    for name, value in sorted(config.static.items()):
        key = BROKER_CONFIGS[name]
        if value != key.default and name not in _SAID_APART:
            shown = "(hidden)" if key.sensitive else key.format(value)
            origin = config.origins.get(name)
            yield f"{name}={shown}" + (f" ({origin})" if origin else "")


def recovered(config: BrokerConfig, broker: Broker, seconds: float) -> None:
    """The data folder is open."""
    found = broker.inside.driver.store.statistics()
    damaged = f"; {found['damaged_logs']} are damaged" if found["damaged_logs"] else ""
    log.info(
        "%s is open after %.2f s: %s, the metadata's among them, and %.1f MiB of the write-ahead log were"
        " read again%s",
        _folder(config), seconds, counted(found["logs"], "log"),
        found["wal_bytes_since_checkpoint"] / MIB, damaged,
    )  # fmt: skip


def stops(broker: Broker, signal_name: str) -> None:
    """A signal has come."""
    led = sum(group.is_leader for group in broker.inside.driver.groups.values())
    led_here = counted(led, "group")
    log.info("%s: stops; it leads %s, which others take over first if they can", signal_name, led_here)


def failed(config: BrokerConfig, failure: BaseException) -> None:
    """It ends by itself."""
    if isinstance(failure, DiskFull):
        log.critical(
            "the broker stops, because the disk under %s is full (%s left; the next file of the write-ahead"
            " log takes %s). What was acknowledged is safe. Make room, or give the folder a larger disk, and"
            " start it again",
            _folder(config), _left(_folder(config)), counted(config.int("raftlog.wal.file.bytes"), "byte"),
        )  # fmt: skip
    elif isinstance(failure, RaftlogError):
        log.critical("the broker stops: %s (its data is in %s)", failure, _folder(config))
    else:
        log.critical("the broker stops by an error of its own", exc_info=failure)


def stopped(seconds: float) -> None:
    """All is on the disk, and the folder is free."""
    log.info("stopped, %.2f s after the signal", seconds)


def _folder(config: BrokerConfig) -> str:
    return os.path.abspath(config.str("log.dirs"))


def _left(folder: str) -> str:
    try:
        found = os.statvfs(folder)
    except OSError:
        return "an unknown number of bytes"
    return f"{found.f_bavail * found.f_frsize:,} bytes"
