"""Settings of TLS, of rights and of logins."""

from __future__ import annotations

from typing import Final

from raftlog.config.keys import ConfigKey, Value, key

STANDARD_AUTHORIZER: Final = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
"""Kafka's, whose name stands for raftlog's own."""


def _check_mechanisms(value: Value) -> str | None:
    return None if value else "a listener with SASL needs one"


def _check_principals(value: Value) -> str | None:
    assert isinstance(value, str)
    for part in value.split(";"):
        kind, colon, name = part.strip().partition(":")
        if part.strip() and not (colon and kind and name):
            return f"{part.strip()!r} is no principal, as in User:alice"
    return None


TLS: Final[list[ConfigKey]] = [
    key(
        "ssl.keystore.location",
        "STRING",
        None,
        "For listeners in TLS: a PEM file with a key and its certificates, the broker's own first. It is read"
        " again when it changes. It must be for the hosts that clients are told, and its key not for"
        " everybody to read.",
    ),
    key(
        "ssl.keystore.type",
        "STRING",
        "PEM",
        "Only PEM; `openssl pkcs12 -nodes` makes it of another.",
        choices=("PEM",),
        ignored=True,
    ),
    key("ssl.key.password", "PASSWORD", None, "What the key in ssl.keystore.location is encrypted with."),
    key(
        "ssl.truststore.location",
        "STRING",
        None,
        "A PEM file with the certificates of those who issue clients' certificates. It is read again when it"
        " changes.",
    ),
    key("ssl.truststore.type", "STRING", "PEM", "As ssl.keystore.type.", choices=("PEM",), ignored=True),
    key(
        "ssl.client.auth",
        "STRING",
        "none",
        "Whether clients of listeners in TLS are asked for a certificate, and refused without one.",
        choices=("none", "requested", "required"),
    ),
    key(
        "ssl.enabled.protocols",
        "LIST",
        ("TLSv1.2", "TLSv1.3"),
        "The versions of TLS that are served.",
        choices=("TLSv1.2", "TLSv1.3"),
        check=lambda value: None if value else "there must be at least one",
    ),
]

RIGHTS: Final[list[ConfigKey]] = [
    key(
        "authorizer.class.name",
        "STRING",
        "",
        f"Whether requests are authorized by ACLs: Kafka's {STANDARD_AUTHORIZER} is taken for raftlog's own."
        " Empty: everybody may do everything. The same on every broker.",
        choices=("", STANDARD_AUTHORIZER),
    ),
    key(
        "super.users",
        "STRING",
        "",
        "Principals that may do everything, separated by `;`: User:admin;User:CN=ops,O=example.",
        check=_check_principals,
    ),
    key(
        "allow.everyone.if.no.acl.found",
        "BOOLEAN",
        False,
        "Whether everybody may do everything with a resource that no ACL is about. Then who deletes the last"
        " ACL of a resource opens it.",
    ),
    key(
        "raftlog.authorizer.lease",
        "BOOLEAN",
        True,
        "A broker with an authorizer, or a listener with logins, stops serving clients when the metadata"
        " leader was silent for 3 s. So a deny, or another password, is in force on every broker when the"
        " call that made it returns. False: the broker goes on by the last rules and users that it has. All"
        " brokers must have the same value.",
    ),
    key(
        "raftlog.audit.required",
        "BOOLEAN",
        False,
        "Refuse an administrator's changes while the audit log (logger raftlog.audit) cannot be written: each"
        " change is in it before it is made.",
    ),
    key(
        "raftlog.insecure",
        "BOOLEAN",
        False,
        "Let a broker start with a listener or a peer port that other machines reach and that asks nobody for"
        " a login or a secret. Whoever reaches such a port can read and delete everything.",
    ),
]

LOGINS: Final[list[ConfigKey]] = [
    key(
        "sasl.enabled.mechanisms",
        "LIST",
        ("SCRAM-SHA-512", "SCRAM-SHA-256"),
        "The mechanisms by which clients of SASL_PLAINTEXT and SASL_SSL listeners may log in."
        " Users are made by `raftlog user add`. PLAIN shows the broker the password; it is offered where the"
        " connection is in TLS, or does not leave the machine.",
        choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"),
        check=_check_mechanisms,
    ),
    key(
        "sasl.oauthbearer.jwks.endpoint.url",
        "STRING",
        None,
        "For OAUTHBEARER: where the keys are that tokens are signed with, https://… or file://….",
    ),
    key("sasl.oauthbearer.expected.issuer", "STRING", None, "For OAUTHBEARER: who issues tokens (iss)."),
    key(
        "sasl.oauthbearer.expected.audience",
        "LIST",
        None,
        "For OAUTHBEARER: for whom tokens are (aud); one of these will do.",
    ),
    key(
        "sasl.oauthbearer.clock.skew.seconds",
        "INT",
        30,
        "For OAUTHBEARER: by how much the issuer's clock may differ.",
        minimum=0,
        maximum=600,
    ),
    key(
        "sasl.oauthbearer.jwks.endpoint.refresh.ms",
        "LONG",
        3_600_000,
        "For OAUTHBEARER: how often the keys are fetched again.",
        minimum=1000,
    ),
    key(
        "connections.max.reauth.ms",
        "LONG",
        0,
        "How long a login lasts; the client then logs in again on the same connection, or is cut off"
        " (KIP-368). 0 is for ever.",
        minimum=0,
        maximum=2**31 - 1,
    ),
    key(
        "raftlog.bootstrap.users.file",
        "STRING",
        None,
        "A file with the users with whom a cluster begins, as `raftlog security init` writes it: no password"
        " is in it. It is read at the start, and means nothing in a cluster that has ever had a user.",
    ),
    key(
        "raftlog.sasl.plain.insecure",
        "BOOLEAN",
        False,
        "Whether PLAIN is offered on connections that others can read.",
    ),
]
