"""How the log on stderr looks: a line of text or of JSON, and how much each part of the broker says."""

from __future__ import annotations

import datetime
import json
import logging
from typing import Final

from raftlog.config import BrokerConfig

LIFE: Final = "raftlog.life"
"""The logger of what an operator wants to know: said without asking for it."""


class JsonLines(logging.Formatter):
    """One JSON object a line: when, how bad, by whom, what; and the traceback of an error of ours."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line = {
            "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


def set_up(config: BrokerConfig) -> None:
    """As the settings want it; for a log that was set up as text."""
    logging.getLogger(LIFE).setLevel(logging.INFO)
    if config.str("raftlog.log.format") == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines())
    for item in config.list("raftlog.log.levels"):
        name, _, level = item.rpartition(":")
        logging.getLogger(name.strip()).setLevel(level.strip().upper())
