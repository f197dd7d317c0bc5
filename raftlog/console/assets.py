"""The page's files, read once. There is no file system behind a request: what is not in the folder at the
first request does not exist, whatever a path says."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
}
"""Of the files that are served; others in the folder are for who reads it, such as licences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    content_type: str
    body: bytes
    packed: bytes
    """The same for who takes gzip."""
    etag: str


def read_assets() -> dict[str, Asset]:
    """By path below the folder: `app.js`, `vendor/htm.mjs`. Takes some 20 ms of CPU: not on an event loop."""
    page = resources.files("raftlog.console") / "page"
    found: dict[str, Asset] = {}
    for folder, prefix in ((page, ""), (page / "vendor", "vendor/")):
        for file in sorted(folder.iterdir(), key=lambda one: one.name):
            kind = TYPES.get(file.name.rpartition(".")[2])
            if kind is not None and file.is_file():
                found[prefix + file.name] = _asset(kind, file.read_bytes())
    return found


def _asset(kind: str, body: bytes) -> Asset:
    etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    return Asset(content_type=kind, body=body, packed=gzip.compress(body, 9, mtime=0), etag=etag)
