"""Certificates for tests: an authority of their own, which nobody else trusts."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

trustme = pytest.importorskip("trustme", reason="the extra `dev` has grown: make .venv/.ready")


_authorities: dict[str, trustme.CA] = {}


def authority(name: str = "ours") -> trustme.CA:
    """One of a name is one and the same in a process."""
    if name not in _authorities:
        _authorities[name] = trustme.CA(organization_name=name)
    return _authorities[name]


def server_context(*hosts: str, name: str = "ours") -> ssl.SSLContext:
    """For a server at these hosts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    authority(name).issue_cert(*hosts).configure_cert(context)
    return context


def client_context(name: str = "ours") -> ssl.SSLContext:
    """For a client that trusts the authority of this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority(name).configure_trust(context)
    return context


def write_authority(folder: Path, name: str = "ours") -> Path:
    """The authority's certificate as a file."""
    path = folder / f"{name}.pem"
    authority(name).cert_pem.write_to_path(path)
    return path


def write_certificate(folder: Path, *hosts: str, name: str = "ours", **more: str) -> Path:
    """Key and certificates of a server in one file, as Kafka's PEM keystore has them."""
    path = folder / f"{hosts[0] if hosts else 'certificate'}-{name}.pem"
    authority(name).issue_cert(*hosts, **more).private_key_and_cert_chain_pem.write_to_path(path)
    path.chmod(0o600)
    return path
