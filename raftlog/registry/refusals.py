"""What a client is told that is not served, with the codes of Confluent's registry: the first three digits
are the HTTP status."""

from __future__ import annotations

from raftlog.http.messages import Refusal, Response
from raftlog.registry.records import INT32_MAX

MESSAGE_CHARACTERS_MAX = 4000
CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class Refused(Refusal):
    """`error_code` is a status, or a status and two digits."""

    def __init__(self, error_code: int, message: str) -> None:
        status = error_code if error_code < 1000 else error_code // 100
        super().__init__(status, str(error_code), message[:MESSAGE_CHARACTERS_MAX])

    @property
    def response(self) -> Response:
        return refused(self)


def refused(refusal: Refusal) -> Response:
    """Any refusal in the registry's form."""
    code = int(refusal.code) if isinstance(refusal, Refused) else refusal.status
    body = {"error_code": code, "message": str(refusal)}
    answer = Response.of(body, refusal.status, headers=refusal.headers)
    return Response(status=answer.status, content_type=CONTENT_TYPE, headers=answer.headers, body=answer.body)


def subject_unknown(subject: str) -> Refused:
    return Refused(40401, f"Subject '{subject}' not found.")


def version_unknown(number: object) -> Refused:
    return Refused(40402, f"Version {number} not found.")


def schema_unknown(id: int | None = None) -> Refused:
    return Refused(40403, "Schema not found" if id is None else f"Schema {id} not found")


def subject_deleted(subject: str) -> Refused:
    return Refused(40404, f"Subject '{subject}' was soft deleted. Set permanent=true to delete permanently")


def subject_not_deleted(subject: str) -> Refused:
    return Refused(40405, f"Subject '{subject}' was not deleted first before being permanently deleted")


def version_deleted(subject: str, number: int) -> Refused:
    return Refused(
        40406,
        f"Subject '{subject}' Version {number} was soft deleted. Set permanent=true to delete permanently",
    )


def version_not_deleted(subject: str, number: int) -> Refused:
    return Refused(
        40407,
        f"Subject '{subject}' Version {number} was not deleted first before being permanently deleted",
    )


def level_not_set(subject: str | None) -> Refused:
    return Refused(40408, f"Subject '{subject}' does not have subject-level compatibility configured")


def mode_not_set(subject: str) -> Refused:
    return Refused(40409, f"Subject '{subject}' does not have subject-level mode configured")


def incompatible(subject: str, whys: list[str]) -> Refused:
    said = "; ".join(whys)
    return Refused(
        409,
        f'Schema being registered is incompatible with an earlier schema for subject "{subject}",'
        f" details: [{said}]",
    )


def invalid_schema(why: str) -> Refused:
    return Refused(42201, f"Invalid schema: {why}")


def invalid_version(text: str) -> Refused:
    return Refused(
        42202,
        f"The specified version '{text[:40]}' is not a valid version id. Allowed values are between"
        f' [1, {INT32_MAX}] and the string "latest"',
    )


def invalid_level(text: object) -> Refused:
    return Refused(
        42203,
        f"Invalid compatibility level {str(text)[:40]!r}. Valid values are none, backward, forward, full,"
        " backward_transitive, forward_transitive, and full_transitive",
    )


def invalid_mode(text: object) -> Refused:
    return Refused(
        42204,
        f"Invalid mode {str(text)[:40]!r}. Valid values are READWRITE, READONLY, READONLY_OVERRIDE, and"
        " IMPORT",
    )


def not_permitted(message: str) -> Refused:
    return Refused(42205, message)


def referred_to(subject: str, number: int) -> Refused:
    return Refused(
        42206,
        "One or more references exist to the schema"
        f" {{magic=1,keytype=SCHEMA,subject={subject},version={number}}}.",
    )


def invalid_subject(subject: str, why: str) -> Refused:
    return Refused(42208, f"The specified subject '{subject[:100]}' is not a valid subject: {why}")
