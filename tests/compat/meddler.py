"""A broker's front door for a test: it notes which versions clients send, and refuses what the test says.

The broker behind tells clients the meddler's address, so that they go through it always. What is refused does
not reach the broker; the answer has the error in every place that has room for one.
"""

from __future__ import annotations

import socket
import threading
from collections import defaultdict
from typing import Any, Final

from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import RequestHeader, decode_request, decode_request_header, encode_response
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.produce import (
    ProduceAnswer,
    decode_produce_request,
    encode_produce_response,
)

BYTES_MAX: Final = 1 << 16


class Meddler:
    """Serves until it is closed, in threads: two a connection."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.broker_port = 0
        """Where the broker listens; to be set before a client comes."""
        self.sent: dict[ApiKey, set[int]] = defaultdict(set)
        self._refusals: dict[ApiKey, ErrorCode] = {}
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def refuse(self, api: ApiKey, code: ErrorCode) -> None:
        """The next request of the API, once."""
        self._refusals[api] = code

    @property
    def has_refused(self) -> bool:
        return not self._refusals

    def forget(self) -> None:
        self._refusals.clear()

    def close(self) -> None:
        self._listening.close()
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
                broker = socket.create_connection(("127.0.0.1", self.broker_port))
            except OSError:
                return
            self._sockets += (client, broker)
            threading.Thread(target=self._requests, args=(client, broker), daemon=True).start()
            threading.Thread(target=self._answers, args=(broker, client), daemon=True).start()

    def _requests(self, client: socket.socket, broker: socket.socket) -> None:
        try:
            with client.makefile("rb") as stream:
                while size := stream.read(4):
                    frame = stream.read(int.from_bytes(size, "big"))
                    header = decode_request_header(frame)
                    if header.api not in ApiKey._value2member_map_:
                        broker.sendall(size + frame)
                        continue
                    api = ApiKey(header.api)
                    self.sent[api].add(header.version)
                    code = self._refusals.pop(api, None)
                    if code is None:
                        broker.sendall(size + frame)
                    else:
                        client.sendall(refusal(api, header, frame, code))
        except OSError:
            pass
        broker.close()

    def _answers(self, broker: socket.socket, client: socket.socket) -> None:
        try:
            while data := broker.recv(BYTES_MAX):
                client.sendall(data)
        except OSError:
            pass
        client.close()


def refusal(api: ApiKey, header: RequestHeader, frame: bytes, code: ErrorCode) -> bytes:
    """The frame of an answer that refuses all of a request."""
    if api is ApiKey.PRODUCE:
        topics = decode_produce_request(bytearray(frame), header).topics
        rows = [(topic, [ProduceAnswer(each.partition, code) for each in parts]) for topic, parts in topics]
        return bytes(encode_produce_response(header.version, header.correlation_id, rows, []))
    request: Any = decode_request(frame, header)
    fields: dict[str, Any] = {"error_code": code}
    match api:
        case ApiKey.INIT_PRODUCER_ID:
            fields |= {"producer_id": -1, "producer_epoch": -1}
        case ApiKey.ADD_PARTITIONS_TO_TXN:
            fields["results_by_topic_v3_and_below"] = [
                {
                    "name": topic.name,
                    "results_by_partition": [
                        {"partition_index": index, "partition_error_code": code} for index in topic.partitions
                    ],
                }
                for topic in request.v3_and_below_topics
            ]
        case ApiKey.TXN_OFFSET_COMMIT:
            fields["topics"] = [
                {
                    "name": topic.name,
                    "partitions": [
                        {"partition_index": each.partition_index, "error_code": code}
                        for each in topic.partitions
                    ],
                }
                for topic in request.topics
            ]
    return b"".join(encode_response(api, header.version, header.correlation_id, fields))
