"""A command that always fails is tried again, ends among the dead letters with its error, and can be sent once more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
import pytest
from tests.town import Town, until

from chassis.auth import Signer
from chassis.caller import NOBODY, Caller
from contracts.chassis import RestateRows
from spine.asking import Asker
from spine.topology import RETRY_SECONDS, dead_letters, replay_dead

_BREAK = """create function no_users() returns trigger language plpgsql as $$
begin raise exception 'the test forbids users'; end $$;
create trigger no_users before insert on outbox for each row when (new.type = 'identity.user.restated.v1')
execute function no_users()"""
_MEND = "drop trigger no_users on outbox; drop function no_users()"
_RESTATED = "select count(*) from fact_log where type = 'identity.user.restated.v1'"
COMMAND = RestateRows.type


@asynccontextmanager
async def asking(town: Town, service: str) -> AsyncIterator[Asker]:
    """What a service sends commands with, under that service's own key and broker user."""
    installation = town.platform.installation
    told = installation.environment(service, own_port=False)
    key = Signer.read(installation.keys / f"{service}.attest.pem")
    asker = Asker(service, told[f"REMIT_{service.upper()}_AMQP_URL"], key)
    try:
        yield asker
    finally:
        await asker.close()


@asynccontextmanager
async def _quick_retries(town: Town) -> AsyncIterator[None]:
    """The operator's policy: whatever a retry queue says, 200 ms."""
    rabbitmq = town.platform.installation.rabbitmq
    policy = ("quick-retries", r"^retry\.", '{"message-ttl": 200}', "--apply-to", "queues")
    rabbitmq.control("set_policy", *policy)
    try:
        yield
    finally:
        rabbitmq.control("clear_policy", "quick-retries")


@pytest.mark.anyio
@pytest.mark.seconds(180)
async def test_a_command_that_always_fails_is_buried_with_its_error_and_can_be_sent_again(town: Town) -> None:
    url, platform = town.platform.installation.rabbitmq.amqp_url, town.platform

    async def done(outcome: str) -> float:
        return await town.counted("remit_commands_total", service="identity", command=COMMAND, outcome=outcome)

    retried, dead = await done("retried"), await done("dead")
    before = (await platform.query("identity", _RESTATED))[0][0]
    await town.execute("identity", _BREAK)
    try:
        async with _quick_retries(town), asking(town, "execution") as asker:
            await asker.send(RestateRows(noun="user"), "identity", caller=Caller.system(NOBODY, "execution.test"))

            async def is_buried() -> bool:
                return await done("dead") > dead

            await until(is_buried, "the command is given up")
    finally:
        await town.execute("identity", _MEND)
    assert await done("retried") == retried + len(RETRY_SECONDS)
    letter = await _look_at_letter(url, "identity")
    assert "the test forbids users" in str(letter.headers["error"])
    assert letter.type == COMMAND
    assert (await platform.query("identity", _RESTATED))[0][0] == before
    assert await replay_dead(url, "identity") == 1

    async def is_done() -> bool:
        return bool((await platform.query("identity", _RESTATED))[0][0] > before)

    await until(is_done, "the command is carried out once its cause is gone")
    assert await _letters(url, "identity") == 0


async def _look_at_letter(url: str, service: str) -> aio_pika.abc.AbstractIncomingMessage:
    """The oldest dead letter, left where it is."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        letter = await (await channel.get_queue(dead_letters(service))).get(timeout=5)
        await letter.nack(requeue=True)
        return letter


async def _letters(url: str, service: str) -> int:
    async with await aio_pika.connect(url) as connection:
        queue = await (await connection.channel()).get_queue(dead_letters(service))
        return queue.declaration_result.message_count or 0
