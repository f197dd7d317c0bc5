"""Looks at a cluster as a client will see it, one step after the other, and says which setting to change.

Name, port, plain text or TLS, certificate, login, and the addresses that brokers tell their clients: each
step needs the one before. It asks and changes nothing.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import trio

from raftlog.client.connection import Connection
from raftlog.client.errors import AuthenticationFailed, ClientError
from raftlog.client.securing import Securing
from raftlog.client.settings import ClientSettings
from raftlog.config.addresses import join_host_port
from raftlog.net.dialing import open_socket
from raftlog.net.stream import PlainStream
from raftlog.net.tls import secure
from raftlog.protocol.api import ApiKey

PATIENCE_S: Final = 10.0
HELLO_PATIENCE_S: Final = 3.0
_NO_TOPICS: Final = {
    "topics": [],
    "allow_auto_topic_creation": False,
    "include_cluster_authorized_operations": False,
    "include_topic_authorized_operations": False,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a step came to. `advice` says what to do where it is not good."""

    step: str
    found: str
    is_good: bool = True
    advice: str = ""


async def look(settings: ClientSettings) -> AsyncGenerator[Finding, None]:
    """Every broker that the settings name, and every one that those name. Ends after what is not good."""
    told: dict[tuple[str, int], None] = dict.fromkeys(settings.servers)
    seen: set[tuple[str, int]] = set()
    while waiting := [place for place in told if place not in seen]:
        place = waiting[0]
        seen.add(place)
        async with aclosing(_look_at(settings, *place, told)) as findings:
            async for finding in findings:
                yield finding
                if not finding.is_good:
                    return


async def _look_at(
    settings: ClientSettings, host: str, port: int, told: dict[tuple[str, int], None]
) -> AsyncGenerator[Finding, None]:
    where = join_host_port(host, port)
    wants_tls = settings.security_protocol in ("SSL", "SASL_SSL")
    try:
        sock = await open_socket(host, port)
    except socket.gaierror:
        yield Finding(
            where, f"there is no host {host!r}", False, "bootstrap.servers, or advertised.listeners"
        )
        return
    except OSError as error:
        why = f"nobody answers: {error.strerror or error}"
        yield Finding(where, why, False, "is the broker up, and does a firewall let you through?")
        return
    yield Finding(where, "is there")
    sock.close()
    speaks_tls = await _speaks_tls(host, port)
    if speaks_tls != wants_tls:
        spoken = "TLS" if speaks_tls else "plain text"
        wanted = "SASL_SSL, or SSL" if speaks_tls else "SASL_PLAINTEXT, or PLAINTEXT"
        yield Finding(where, f"speaks {spoken}", False, f"security.protocol={wanted}")
        return
    try:
        securing = Securing(settings)
        stream = await securing.stream_to(host, PlainStream(await open_socket(host, port)))
    except (AuthenticationFailed, ClientError, OSError) as error:
        advice = "ssl.truststore.location: is it who issued the broker's certificate?"
        if "mismatch" in str(error).lower() or "not valid for" in str(error):
            advice = f"give the broker a certificate that names {host!r}"
        elif "expired" in str(error):
            advice = "renew the broker's certificate: `openssl x509 -enddate -noout` says when it ended"
        elif "ended the TLS handshake" in str(error):
            advice = "does the broker ask for a certificate (ssl.keystore.location)?"
        yield Finding(where, str(error), False, advice)
        return
    yield Finding(where, "speaks TLS, and its certificate is good" if wants_tls else "speaks plain text")
    connection = Connection(stream, name=where, client_id="raftlog-check")
    for finding in await _talk(settings, securing, connection, told):
        yield finding


async def _talk(
    settings: ClientSettings,
    securing: Securing,
    connection: Connection,
    told: dict[tuple[str, int], None],
) -> list[Finding]:
    where, deadline = connection.name, trio.current_time() + PATIENCE_S
    findings: list[Finding] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        try:
            await connection.handshake(deadline)
            host = where.rpartition(":")[0].strip("[]")
            await securing.log_in(connection, host, deadline)
            if settings.security_protocol.startswith("SASL_"):
                said = f"takes {settings.sasl_username!r} by {settings.sasl_mechanism}"
                findings.append(Finding(where, said))
            answer = await connection.request(ApiKey.METADATA, _NO_TOPICS, deadline=deadline)
            brokers = [(str(broker.host), int(broker.port)) for broker in answer.brokers]
            told.update(dict.fromkeys(brokers))
            named = ", ".join(join_host_port(*broker) for broker in brokers)
            findings.append(Finding(where, f"sends clients to {named}"))
        except AuthenticationFailed as error:
            said = str(error).removeprefix(f"{where}: ")
            findings.append(Finding(where, said, False, _advice(settings)))
        except (ClientError, OSError) as error:
            findings.append(
                Finding(where, f"does not serve: {error}", False, "is it a Kafka listener, with a login?")
            )
        finally:
            connection.close()
    return findings


def _advice(settings: ClientSettings) -> str:
    if settings.security_protocol.startswith("SASL_"):
        return "sasl.username, sasl.password, sasl.mechanism; the broker's log says which is wrong"
    return "security.protocol=SASL_SSL, sasl.username and sasl.password"


async def _speaks_tls(host: str, port: int) -> bool:
    """By what it answers to a hello of TLS, whatever its certificate says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with trio.move_on_after(HELLO_PATIENCE_S):
        try:
            stream = await secure(PlainStream(await open_socket(host, port)), context, host)
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "") or "CERTIFICATE" in (error.reason or "")
        except OSError:
            return False
        stream.close()
        return True
    return False
