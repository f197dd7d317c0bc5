"""Workers between brokers and a bucket, killed and paused. Numbers are the scenarios'."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest
import trio

from raftlog.connect.deadletters import PREFIX
from tests.connect.pipeline_process import PipelineProcess
from tests.connect.s3_server import KEY, S3Server, serving
from tests.connect.stage import Stage, until


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    yield from serving()


class Archive:
    """A bucket, and what of it tests ask."""

    def __init__(self, server: S3Server) -> None:
        self.server, self.bucket = server, server.bucket()

    def numbers(self) -> list[int]:
        return [json.loads(line)["n"] for line in self.server.lines(self.bucket)]

    async def until_numbers(self, wanted: list[int]) -> None:
        async def there() -> bool:
            return await trio.to_thread.run_sync(self.numbers) == wanted

        await until(there, lambda: (self.numbers()[-5:], wanted[-5:]))


@pytest.fixture
def archive(server: S3Server) -> Archive:
    return Archive(server)


async def test_scenario_62_one_bad_record_goes_to_the_dead_letters_and_the_bucket_counts(
    stage: Stage, archive: Archive
):
    """62; and the next start goes by what the bucket says, not by the group."""
    topic, dead = stage.topic("t"), stage.topic("dead")
    sink = {
        "class": "s3-sink",
        "topics": [topic],
        "bucket": archive.bucket,
        "endpoint": archive.server.endpoint,
        "roll_records": 40,
        "roll_s": 0.2,
        "batch_wait_ms": 50,
        "errors": {"dlq": dead},
        **KEY,
    }
    fed = [b'{"n": %d}' % n for n in range(100)]
    fed[50] = b"no JSON"
    await stage.feed(topic, fed)
    there = [n for n in range(100) if n != 50]
    async with stage.running(out=sink):
        await archive.until_numbers(there)
    (letter,) = await stage.read(dead)
    assert dict(letter.headers)[f"{PREFIX}offset"] == b"50"
    group = f"connect-{stage.name}-out"
    await stage.client.admin.delete_group(group)
    await stage.feed(topic, [b'{"n": 100}'])
    async with stage.running(out=sink):
        await archive.until_numbers([*there, 100])


class Workers:
    """Two of one pipeline, and what they are fed."""

    def __init__(self, stage: Stage, archive: Archive) -> None:
        self.stage, self.archive = stage, archive
        self.topic, self.fed = stage.topic("t"), 0
        pipeline = f"""
[connector.{stage.name}-out]
class = "s3-sink"
topics = ["{self.topic}"]
bucket = "{archive.bucket}"
endpoint = "{archive.server.endpoint}"
access_key_id = "{KEY["access_key_id"]}"
secret_access_key = "${{env:S3_KEY}}"
roll_records = 37
roll_s = 0.05
answer_s = 5
batch_wait_ms = 20
session_timeout_ms = 6000
"""
        self.folders = stage.folder / "one", stage.folder / "two"
        for folder in self.folders:
            folder.mkdir()
        self.first, self.second = (
            PipelineProcess(folder, pipeline, stage.cluster.bootstrap) for folder in self.folders
        )
        self.key = {"S3_KEY": KEY["secret_access_key"]}

    async def feed(self, count: int) -> None:
        await self.stage.feed(self.topic, [b'{"n": %d}' % n for n in range(self.fed, self.fed + count)])
        self.fed += count

    async def until_some_more(self) -> None:
        before = len(self.archive.numbers())

        async def came() -> bool:
            assert self.first.ended is None
            await self.feed(50)
            return len(self.archive.numbers()) > before

        await until(came, lambda: self.archive.numbers()[-3:])

    async def until_all(self) -> None:
        await self.archive.until_numbers(list(range(self.fed)))


@pytest.mark.slow
@pytest.mark.long
async def test_scenario_61_a_worker_is_killed_over_and_over(stage: Stage, archive: Archive):
    """59, 60, 61: SIGKILL at any moment, and a store that stands still: no record is lost, and none is there
    twice."""
    workers = Workers(stage, archive)
    with workers.first as process:
        for is_paused in (False, True):
            process.start(**workers.key)
            await workers.until_some_more()
            if is_paused:
                archive.server.pause()
                await trio.sleep(0.2)  # a request is under way
            assert await trio.to_thread.run_sync(process.end, signal.SIGKILL) == -signal.SIGKILL
            archive.server.resume()
        process.start(**workers.key)
        await workers.until_some_more()
        await workers.until_all()
        assert await trio.to_thread.run_sync(process.end, signal.SIGINT) == 0


@pytest.mark.slow
@pytest.mark.long
async def test_scenario_61_a_worker_wakes_up_when_another_has_its_partition(stage: Stage, archive: Archive):
    """61: what it had in memory is there already, by another, and is not written again."""
    workers = Workers(stage, archive)
    with workers.first as process, workers.second as successor:
        process.start(**workers.key)
        await workers.until_some_more()
        await workers.feed(50)
        process.send(signal.SIGSTOP)
        await workers.feed(200)
        successor.start(**workers.key)
        await workers.until_all()
        process.send(signal.SIGCONT)
        await workers.feed(200)
        await workers.until_all()
        for each in (process, successor):
            assert await trio.to_thread.run_sync(each.end, signal.SIGINT) == 0
    assert archive.numbers() == list(range(workers.fed))
