"""A certificate's subject as Kafka writes it. The escapes are Java's, by its documentation and source."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.broker.principals import SUBJECT_CHARACTERS_MAX, principal_of
from raftlog.errors import InvalidInput


def certificate(*parts: tuple[str, str]) -> dict[str, Any]:
    """As `ssl` tells it: a tuple a relative name."""
    return {"subject": tuple((part,) for part in parts)}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("alice", "alice"),
        ("alice,OU=admins", "alice\\,OU\\=admins"),
        ('a"b', 'a\\"b'),
        ("a+b", "a\\+b"),
        ("a\\b", "a\\\\b"),
        ("a#b", "a\\#b"),
        ("<a>;", "\\<a\\>\\;"),
        (" a b ", "\\ a b\\ "),
        ("a\0b", "a\\00b"),
        ("Zoë", "Zoë"),
    ],
)
def test_a_name_is_escaped_as_java_does(value: str, written: str) -> None:
    """Scenario 7: a name never becomes two."""
    assert principal_of(certificate(("commonName", value))) == f"User:CN={written}"


def test_the_last_part_of_the_certificate_comes_first() -> None:
    subject = certificate(
        ("commonName", "alice"), ("organizationalUnitName", "team"), ("organizationName", "x")
    )
    assert principal_of(subject) == "User:O=x,OU=team,CN=alice"


def test_a_part_of_two_attributes_stays_one() -> None:
    subject = {"subject": ((("commonName", "alice"), ("userId", "7")), (("countryName", "AT"),))}
    assert principal_of(subject) == "User:C=AT,CN=alice+UID=7"


@pytest.mark.parametrize(
    "subject",
    [
        certificate(),
        {},
        certificate(("emailAddress", "a@b")),
        certificate(("commonName", "a" * SUBJECT_CHARACTERS_MAX)),
    ],
)
def test_what_cannot_be_written_is_refused(subject: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="a certificate whose subject has"):
        principal_of(subject)
