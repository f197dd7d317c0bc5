"""`raftlog acl`: allow and deny; list, remove and check what is allowed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from raftlog.cli import CommandGroup
from raftlog.cli.output import counted, print_json, print_table, with_format
from raftlog.cli.target import Target, with_brokers
from raftlog.rights import (
    CLUSTER_NAME,
    EVERY_NAME,
    OPERATIONS_OF,
    Operation,
    Pattern,
    Permission,
    ResourceKind,
    words,
)

if TYPE_CHECKING:
    from raftlog.client.acls import Acl
    from raftlog.client.client import Client

OPERATIONS: Final = {words(operation).lower(): operation for operation in Operation}
Named = tuple[ResourceKind, str]
Resource = Named | None
NO_RESOURCE: Final = "name a resource: --topic, --group, --transactional-id or --cluster"


def operation_of(text: str) -> Operation:
    """`Read`, `describe_configs`, `DescribeConfigs`. Raises BadParameter."""
    found = OPERATIONS.get(text.replace("_", "").lower())
    if found is None:
        raise click.BadParameter(f"there is no operation {text!r}, only {', '.join(map(words, Operation))}")
    return found


def with_resources(command: Callable[..., None]) -> Callable[..., None]:
    """The options that name resources, one of a kind; the command gets them as `resources`."""

    @click.option("--topic", metavar="NAME", help="A topic, or '*' for all.")
    @click.option("--group", metavar="NAME", help="A consumer group, or '*' for all.")
    @click.option("--transactional-id", metavar="ID", help="A transactional id, or '*' for all.")
    @click.option("--cluster", is_flag=True, help="The cluster itself.")
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        topic: str | None,
        group: str | None,
        transactional_id: str | None,
        cluster: bool,
        **options: Any,
    ) -> None:
        named = [
            (kind, name)
            for kind, name in (
                (ResourceKind.TOPIC, topic),
                (ResourceKind.GROUP, group),
                (ResourceKind.TRANSACTIONAL_ID, transactional_id),
                (ResourceKind.CLUSTER, CLUSTER_NAME if cluster else None),
            )
            if name is not None
        ]
        command(*args, resources=named, **options)

    return wrapped


def with_resource(command: Callable[..., None]) -> Callable[..., None]:
    """The same options for a command that takes one resource at most, as `resource`."""

    @with_resources
    @functools.wraps(command)
    def wrapped(*args: Any, resources: list[Named], **options: Any) -> None:
        if len(resources) > 1:
            raise click.UsageError("name one resource: --topic, --group, --transactional-id or --cluster")
        command(*args, resource=resources[0] if resources else None, **options)

    return wrapped


@click.group(
    cls=CommandGroup,
    epilog="""\b
Examples:
  raftlog acl add User:alice Read Write --topic orders
  raftlog acl add User:app All --topic app- --group app- --prefix
  raftlog acl add User:mallory All --topic '*' --deny
  raftlog acl list --topic orders
  raftlog acl check User:alice Write --topic orders
""",
)
def command() -> None:
    """Allow and deny; list, remove and check what is allowed.

    Brokers have to be started with an authorizer (authorizer.class.name).
    """


@command.command(
    epilog="""\b
Examples:
  raftlog acl add User:alice Read --group billing
  raftlog acl add 'User:CN=app,O=example' Read Write --topic orders --host 10.0.0.7
"""
)
@click.argument("principal")
@click.argument("operations", nargs=-1, required=True, type=operation_of)
@with_resources
@click.option("--prefix", is_flag=True, help="Whatever begins with the name.")
@click.option("--deny", is_flag=True, help="Deny rather than allow. A deny goes before any allow.")
@click.option("--host", default=EVERY_NAME, show_default=True, help="Only from this address.")
@with_brokers
def add(
    target: Target,
    principal: str,
    operations: tuple[Operation, ...],
    resources: list[Named],
    prefix: bool,
    deny: bool,
    host: str,
) -> None:
    """Allow PRINCIPAL, as in User:alice, OPERATIONS on a resource or several, or deny them.

    They are in force on every broker when the command ends.
    """
    if not resources:
        raise click.UsageError(NO_RESOURCE)
    for kind, _ in resources:
        for operation in operations:
            if operation is not Operation.ALL:
                _check_possible(operation, kind)

    async def main(client: Client) -> None:
        from raftlog.client.acls import Acl

        acls = [
            Acl(
                kind=kind,
                name=name,
                principal=principal,
                operation=operation,
                pattern=Pattern.PREFIXED if prefix else Pattern.LITERAL,
                permission=Permission.DENY if deny else Permission.ALLOW,
                host=host,
            )
            for kind, name in resources
            for operation in operations
        ]
        await client.admin.operations.acls.create(acls)
        for acl in acls:
            click.echo(_sentence(acl))

    target.run(main)


@command.command(
    "list",
    epilog="""\b
Examples:
  raftlog acl list
  raftlog acl list --principal User:alice
  raftlog acl list --topic orders --format json
""",
)
@with_resource
@click.option("--principal", help="Those of this one only.")
@with_format
@with_brokers
def list_acls(target: Target, resource: Resource, principal: str | None, output: str) -> None:
    """List what is allowed and denied; of a resource, by every rule that includes its name."""

    async def main(client: Client) -> None:
        from raftlog.client.acls import AclFilter

        kind, name = resource if resource is not None else (None, None)
        found = await client.admin.operations.acls.list(
            AclFilter(kind=kind, name=name, principal=principal, applying=name is not None)
        )
        _print(list(found), output)

    target.run(main)


@command.command(
    epilog="""\b
Examples:
  raftlog acl remove User:alice --topic orders
  raftlog acl remove User:alice Write --topic orders
  raftlog acl remove User:alice
"""
)
@click.argument("principal")
@click.argument("operations", nargs=-1, type=operation_of)
@with_resource
@click.option("--prefix", is_flag=True, help="The rules of the prefix.")
@with_format
@with_brokers
def remove(
    target: Target,
    principal: str,
    operations: tuple[Operation, ...],
    resource: Resource,
    prefix: bool,
    output: str,
) -> None:
    """Remove what was said of PRINCIPAL: of a resource, of single OPERATIONS, or altogether.

    It is in force nowhere when the command ends.
    """

    async def main(client: Client) -> None:
        from raftlog.client.acls import AclFilter

        kind, name = resource if resource is not None else (None, None)
        pattern = None
        if name is not None:
            pattern = Pattern.PREFIXED if prefix else Pattern.LITERAL
        removed: list[Acl] = []
        for operation in operations or (None,):
            removed += await client.admin.operations.acls.delete(
                AclFilter(kind=kind, name=name, pattern=pattern, principal=principal, operation=operation)
            )
        _print(removed, output)
        if output != "json":
            click.echo(f"removed {counted(len(removed), 'rule')}", err=True)

    target.run(main)


@command.command(
    epilog="""\b
Examples:
  raftlog acl check User:alice Write --topic orders
  raftlog acl check User:alice Read --group billing --host 10.0.0.7
"""
)
@click.argument("principal")
@click.argument("operation", type=operation_of)
@with_resource
@click.option("--host", default="127.0.0.1", show_default=True, help="From which address.")
@with_brokers
def check(target: Target, principal: str, operation: Operation, resource: Resource, host: str) -> None:
    """Say whether PRINCIPAL may do OPERATION, and which rule decides. Exits with 1 when not.

    Super users may do everything, whatever the rules are: super.users of the brokers says who they are.
    """
    kind, name = _needed(resource)
    _check_possible(operation, kind)

    is_allowed = False

    async def main(client: Client) -> None:
        nonlocal is_allowed
        from raftlog.client.acls import AclFilter
        from raftlog.metadata.acl_table import AclBinding, table_of
        from raftlog.types import BEFORE_ALL

        found = await client.admin.operations.acls.list(AclFilter(kind=kind, name=name, applying=True))
        table = table_of(
            (
                AclBinding(
                    acl.kind, acl.pattern, acl.name, acl.principal, acl.host, acl.operation, acl.permission
                )
                for acl in found
            ),
            BEFORE_ALL,
        )
        decision = table.decide(principal, host, operation, kind, name)
        verb = "may" if decision.allowed else "may not"
        why = str(decision.rule) if decision.rule is not None else "no rule allows it"
        click.echo(f"{principal} {verb} {words(operation)} {words(kind)} '{name}': {why}")
        is_allowed = decision.allowed

    target.run(main)
    if not is_allowed:
        raise SystemExit(1)


def _check_possible(operation: Operation, kind: ResourceKind) -> None:
    if operation not in OPERATIONS_OF[kind]:
        possible = ", ".join(map(words, OPERATIONS_OF[kind]))
        raise click.UsageError(f"on a {words(kind)} there is no {words(operation)}; there are: {possible}")


def _needed(resource: Resource) -> tuple[ResourceKind, str]:
    if resource is None:
        raise click.UsageError(NO_RESOURCE)
    return resource


def _sentence(acl: Acl) -> str:
    from raftlog.metadata.acl_table import AclBinding

    return str(
        AclBinding(acl.kind, acl.pattern, acl.name, acl.principal, acl.host, acl.operation, acl.permission)
    )


def _print(acls: list[Acl], output: str) -> None:
    if output == "json":
        print_json(
            [
                {
                    "principal": acl.principal,
                    "permission": words(acl.permission),
                    "operation": words(acl.operation),
                    "resource": words(acl.kind),
                    "pattern": words(acl.pattern),
                    "name": acl.name,
                    "host": acl.host,
                }
                for acl in acls
            ]
        )
    elif not acls:
        click.echo("there are no such rules", err=True)
    else:
        rows = [
            (
                acl.principal,
                words(acl.permission),
                words(acl.operation),
                words(acl.kind),
                acl.name + (EVERY_NAME if acl.pattern is Pattern.PREFIXED else ""),
                acl.host,
            )
            for acl in acls
        ]
        print_table(("PRINCIPAL", "PERMISSION", "OPERATION", "RESOURCE", "NAME", "HOST"), rows)
