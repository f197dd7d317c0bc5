"""What a host's name or address says by itself, without asking anybody."""

from __future__ import annotations

import ipaddress


def is_this_machine(host: str) -> bool:
    """Whether it is of this machine alone: nobody else reaches what listens there."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
