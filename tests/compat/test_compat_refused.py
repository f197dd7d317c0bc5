"""What is not built yet is refused at once, in a way that each client takes as final."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests import secured
from tests.compat.clients.base import PATIENCE_S


@pytest.mark.skipif(bool(secured.SECURITY), reason="brokers have an authorizer")
def test_rules_are_refused_as_by_kafka_without_an_authorizer(bootstrap: str) -> None:
    """DescribeAcls as well, of which librdkafka does not show the error."""
    admin = AdminClient({**secured.librdkafka(bootstrap)})
    topic = (ResourceType.TOPIC, "t", ResourcePatternType.LITERAL, "User:me", "*")
    allow = AclBinding(*topic, AclOperation.READ, AclPermissionType.ALLOW)
    any_ = AclBindingFilter(*topic, AclOperation.ANY, AclPermissionType.ANY)
    asked = [
        lambda **timeout: admin.create_acls([allow], **timeout)[allow],
        lambda **timeout: admin.delete_acls([any_], **timeout)[any_],
    ]
    for ask in asked:
        with pytest.raises(KafkaException) as refused:
            ask(request_timeout=PATIENCE_S).result(PATIENCE_S)
        assert refused.value.args[0].code() == KafkaError.SECURITY_DISABLED
