"""A worker that is told over HTTP what to run: `raftlog connect serve`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence

import trio

from raftlog.client.client import Client
from raftlog.client.nursery import background
from raftlog.connect import configs, positions, topics
from raftlog.connect.configs import Configs
from raftlog.connect.herd import Herd
from raftlog.connect.rest import open_server
from raftlog.connect.rest_connectors import ConnectorCalls
from raftlog.connect.rest_worker import WorkerCalls
from raftlog.connect.worker import outlived
from raftlog.http.guard import Tokens
from raftlog.http.server import Server

Ready = Callable[[Server, Herd], None]


async def serve(
    brokers: str | Client,
    sockets: Sequence[socket.socket],
    ready: Ready,
    *,
    tokens: Tokens,
    hosts: Iterable[str] = (),
    configs_topic: str = configs.TOPIC,
    positions_topic: str = positions.TOPIC,
) -> None:
    """Run what `configs_topic` says, and let it be changed at `sockets`, until this is cancelled; `ready` is
    called when it serves. Of two workers with one topic the newer one alone can change it.

    Raises ConnectError and ClientError.
    """

    async def work(client: Client) -> None:
        for topic in (configs_topic, positions_topic):
            await topics.prepare(client, topic)
        async with (
            client.producer(transactional_id=configs.transactional_id(configs_topic)) as producer,
            background() as nursery,
        ):
            known = Configs(configs_topic, producer)
            await known.load(client)  # whoever wrote them before is fenced now
            herd = Herd(client, nursery, known, positions_topic)
            cluster = await client.admin.describe_cluster()
            host, port = sockets[0].getsockname()[:2]
            routes = [
                *WorkerCalls(cluster.cluster_id).routes(),
                *ConnectorCalls(herd, f"{host}:{port}").routes(),
            ]
            server = open_server(routes, sockets, tokens, hosts)
            await herd.start()
            nursery.start_soon(server.run)
            ready(server, herd)
            await trio.sleep_forever()

    await outlived(brokers, work)
