"""Who could do everything, by the addresses that a broker is told to listen on.

The open databases of the 2010s were found by whoever looked for them. So a broker that others can reach
asks who they are, or is told in a word that it need not.
"""

from __future__ import annotations

from typing import Final

from raftlog.broker.origin import ANONYMOUS
from raftlog.cluster.authorizer import super_users
from raftlog.config import BrokerConfig
from raftlog.config.addresses import join_host_port
from raftlog.net.hosts import is_this_machine

WAYS_OUT: Final = "`raftlog security init` makes it safe, --insecure (raftlog.insecure=true) has it so"


def exposure(config: BrokerConfig) -> str | None:
    """What others could reach and do without saying who they are; None for nothing."""
    authorizes = (
        bool(config.str("authorizer.class.name"))
        and not config.bool("allow.everyone.if.no.acl.found")
        and ANONYMOUS not in super_users(config)
    )
    for listener in config.listeners:
        protocol = config.protocol_of(listener.name)
        asks = config.asks_for_login(listener.name) or (
            protocol == "SSL" and config.for_listener(listener.name).str("ssl.client.auth") == "required"
        )
        if not asks and not authorizes and not is_this_machine(listener.host):
            return (
                "anyone who can reach"
                f" {join_host_port(listener.host or '*', listener.port)} could read and delete everything"
            )
    host, port = config.peer_listen
    has_peers = bool(config.peers or config.join)
    if has_peers and not config.str("raftlog.peer.secret.file") and not is_this_machine(host):
        return f"anyone who can reach {join_host_port(host or '*', port)} could pass for a broker"
    return None


def named(config: BrokerConfig) -> str:
    """How clients are asked who they are, in a word."""
    protocols = {config.protocol_of(listener.name) for listener in config.listeners} - {"PLAINTEXT", None}
    word = ",".join(sorted(each.lower() for each in protocols if each)) or "none"
    return f"{word}(insecure)" if exposure(config) is not None else word
