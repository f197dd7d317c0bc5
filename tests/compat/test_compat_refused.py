"""What is not built yet is refused at once, in a way that each client takes as final."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.compat.clients.base import PATIENCE_S

TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53


def test_a_transactional_producer_of_librdkafka_is_told(bootstrap: str) -> None:
    """It asks for the coordinator again for ever after any other error, and then says that time is up."""
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "t"})
    with pytest.raises(KafkaException) as refused:
        producer.init_transactions(PATIENCE_S)
    error = refused.value.args[0]
    assert error.fatal()
    assert error.code() == TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert "transactions are not built yet" in error.str()


def test_a_transactional_producer_of_kafka_python_is_told(bootstrap: str) -> None:
    import kafka  # it warns when it is imported

    producer = kafka.KafkaProducer(bootstrap_servers=bootstrap, transactional_id="t")
    try:
        with pytest.raises(kafka.errors.TransactionalIdAuthorizationFailedError):
            producer.init_transactions()
    finally:
        producer.close(0)


def test_a_transactional_producer_of_aiokafka_is_told(bootstrap: str) -> None:
    import aiokafka

    async def start() -> None:
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="t")
        try:
            with pytest.raises(aiokafka.errors.TransactionalIdAuthorizationFailed):
                await asyncio.wait_for(producer.start(), PATIENCE_S)
        finally:
            await producer.stop()

    asyncio.run(start())


def test_rules_are_refused_as_by_kafka_without_an_authorizer(bootstrap: str) -> None:
    """DescribeAcls as well, of which librdkafka does not show the error."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
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
