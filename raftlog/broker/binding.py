"""Listening sockets: one for every address that a host has.

`localhost` is 127.0.0.1 and ::1, and an empty host is every interface of both families: a client may try
either first, and some try only one.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence
from typing import Any, Final

BACKLOG: Final = 1024
FREE_PORT_TRIES_MAX: Final = 16
"""A port that is free for one family may be taken in the other; more than a few in a row are not."""

_NOT_HERE: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""The host has the address by its name alone: many containers name ::1 and have no IPv6."""

_Address = tuple[socket.AddressFamily, Any]


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen at every address of the host; port 0 picks a free one, the same for all. Raises
    OSError, and leaves nothing open, when an address is taken or there is none."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = [(family, address) for family, _, _, _, address in found]
    tries = FREE_PORT_TRIES_MAX if port == 0 else 1
    while True:
        tries -= 1
        try:
            return _listen_at_all(addresses)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not tries:
                raise


def _listen_at_all(addresses: Sequence[_Address]) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    with contextlib.ExitStack() as opened:
        for family, address in dict.fromkeys(addresses):
            if sockets:  # the port that the first was given
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            try:
                sockets.append(opened.enter_context(contextlib.closing(_listening(family, address))))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                absent = error
        if absent is not None and not sockets:
            raise absent
        opened.pop_all()
    return sockets


def _listening(family: socket.AddressFamily, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # IPv4 has a socket of its own, whatever the system's default is
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
