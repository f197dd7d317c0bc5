"""Fetches the libraries that the console uses, as they were published: `python -m tests.console.vendor`.

Each is one exact version of a package of npm. Its archive has to have the hash that `versions.json` says, and
the files taken from it are not changed. Nothing else ever needs Node or npm.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).parents[2] / "raftlog" / "console" / "page" / "vendor"
VERSIONS = VENDOR / "versions.json"
ARCHIVE_BYTES_MAX = 20 << 20


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fetch(package: dict[str, Any]) -> dict[str, bytes]:
    """The files of a package that are kept here, by the name that they have here."""
    with urllib.request.urlopen(package["archive"], timeout=60) as answer:
        archive = answer.read(ARCHIVE_BYTES_MAX)
    algorithm, _, expected = package["integrity"].partition("-")
    found = base64.b64encode(hashlib.new(algorithm, archive).digest()).decode()
    if found != expected:
        raise SystemExit(f"{package['archive']} is not what it was: {found}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {}
        for name, source in package["files"].items():
            member = tar.extractfile(f"package/{source['from']}")
            assert member is not None, source
            files[name] = member.read()
        return files


def main() -> None:
    for name, package in json.loads(VERSIONS.read_text()).items():
        for file, data in fetch(package).items():
            assert sha256(data) == package["files"][file]["sha256"], file
            (VENDOR / file).write_bytes(data)
        print(f"{name} {package['version']}: {', '.join(package['files'])}")


if __name__ == "__main__":
    main()
