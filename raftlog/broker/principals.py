"""The name of whoever shows a certificate, as Kafka writes it: `User:` and the subject.

Kafka's text is Java's: RFC 2253, the certificate's last part first, with Java's own escapes. What was written
for Kafka holds here when it is the same to the letter.
"""

from __future__ import annotations

from typing import Any, Final

from raftlog.errors import InvalidInput

SUBJECT_CHARACTERS_MAX: Final = 1024
"""A longer subject is refused: it is kept for each connection, and compared."""

_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
"""The attributes that Java writes by name. It writes others as encoded bytes, which `ssl` does not tell."""
_ESCAPED: Final = frozenset(',=+<>#;"\\')


def principal_of(certificate: dict[str, Any]) -> str:
    """The principal of a certificate that was checked, as `ssl` tells of it. Raises InvalidInput for a
    subject that cannot be written."""
    text = ",".join(
        "+".join(f"{_name(kind)}={_escaped(value)}" for kind, value in relative)
        for relative in reversed(certificate.get("subject", ()))
    )
    if not text or len(text) > SUBJECT_CHARACTERS_MAX:
        raise InvalidInput(
            f"a certificate whose subject has {len(text)} characters; 1 to {SUBJECT_CHARACTERS_MAX} are taken"
        )
    return f"User:{text}"


def _name(kind: str) -> str:
    name = _SHORT.get(kind)
    if name is None:
        raise InvalidInput(f"a certificate whose subject has the attribute {kind[:60]!r}, which is not taken")
    return name


def _escaped(value: str) -> str:
    text = "".join(f"\\{char}" if char in _ESCAPED else char for char in value).replace("\0", "\\00")
    kept = text.strip(" ")
    if not kept:
        return "\\ " * len(text)
    left = len(text) - len(text.lstrip(" "))
    return "\\ " * left + kept + "\\ " * (len(text) - left - len(kept))
