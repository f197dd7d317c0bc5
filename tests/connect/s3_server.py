"""An S3 of the tests' own, moto's server on loopback: started, paused, and looked into by boto3."""

from __future__ import annotations

import gzip
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from raftlog.testing.processes import free_port

PATIENCE_S = 60
KEY = {"access_key_id": "AKIA-of-tests", "secret_access_key": "a key of tests"}


class S3Server:
    """What it has is in its memory: it is paused, and not started anew."""

    def __init__(self) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                assert time.monotonic() < give_up and self._process.poll() is None, "moto does not start"
                time.sleep(0.05)
        import boto3
        from botocore.config import Config

        self.boto: Any = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY["access_key_id"],
            aws_secret_access_key=KEY["secret_access_key"],
            config=Config(proxies={}),
        )

    def pause(self) -> None:
        """It takes connections, and answers nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def bucket(self) -> str:
        """A new one."""
        name = f"b-{uuid.uuid4().hex[:12]}"
        self.boto.create_bucket(Bucket=name)
        return name

    def names(self, bucket: str) -> list[str]:
        """In the order of their names."""
        pages = self.boto.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def body(self, bucket: str, name: str) -> bytes:
        body: bytes = self.boto.get_object(Bucket=bucket, Key=name)["Body"].read()
        return gzip.decompress(body) if name.endswith(".gz") else body

    def lines(self, bucket: str) -> list[bytes]:
        """Of all objects, in the order of their names."""
        return [line for name in self.names(bucket) for line in self.body(bucket, name).splitlines()]

    def close(self) -> None:
        self.boto.close()
        self._process.kill()
        self._process.wait()


def serving() -> Iterator[S3Server]:
    """One that runs, for a fixture. Skipped, or failed where everything is asked for, without moto."""
    for module in ("moto", "flask", "obstore"):
        if importlib.util.find_spec(module) is None:
            told = f"{module} is not installed: pip install 'moto[s3,server]' obstore"
            if os.environ.get("RAFTLOG_TEST_REQUIRE") == "all":
                pytest.fail(told)
            pytest.skip(told)
    server = S3Server()
    try:
        yield server
    finally:
        server.close()
