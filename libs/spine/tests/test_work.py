from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import aio_pika
import pytest
from libs.spine.tests.stage import Stage, happened, until
from sqlalchemy import text

from chassis.auth import Signer, Trust, write_keys
from chassis.caller import NOBODY, Caller
from chassis.errors import ConflictError, UnavailableError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.chassis import RestateRows
from contracts.envelope import Command, Reply
from spine.asking import Asker, ask_by, restate_by
from spine.resend import Resender
from spine.topology import command_name, dead_letters, declare_topology, replay_dead, retry_exchange, work_exchange
from spine.work import Worker, command

pytestmark = pytest.mark.anyio


class Done(Reply):
    type: ClassVar = "test.done.v1"
    by: str = ""
    organization_id: UUID = NOBODY


@dataclass
class Floor:
    """A worker of the consumer, and an asker of the producer."""

    stage: Stage
    asker: Asker
    worker: Worker
    contract: type[Command]
    calls: list[str]

    def command(self, say: str) -> Command:
        return self.contract(say=say)  # type: ignore[call-arg]

    async def dead(self) -> int:
        connection = await aio_pika.connect(self.stage.servers.amqp_url)
        async with connection:
            channel = await connection.channel()
            queue = await channel.get_queue(dead_letters(self.stage.consumer))
            return queue.declaration_result.message_count or 0


@pytest.fixture
async def floor(stage: Stage, tmp_path: Path) -> AsyncIterator[Floor]:
    class SayIt(Command):
        type: ClassVar = f"{stage.consumer}.say_it.v1"
        say: str

    calls: list[str] = []

    @command(SayIt)
    async def say_it(uow: UnitOfWork, told: SayIt) -> Done:
        calls.append(told.say)
        if told.say == "no":
            raise ConflictError("not now", code="not_now")
        if told.say == "stumble" and len(calls) == 1:
            raise RuntimeError("once")
        insert = text("insert into seen (organization_id, number) values (:organization_id, :number)")
        await uow.execute(insert, {"organization_id": uow.organization_id, "number": len(calls)})
        return Done(by=uow.caller.id, organization_id=uow.organization_id)

    trust = Trust.read(write_keys(tmp_path, {stage.producer: ("attest",), stage.consumer: ("attest",)}))
    url = stage.servers.amqp_url
    await declare_topology(url, {stage.consumer: [SayIt], stage.producer: []})
    asker = Asker(stage.producer, url, Signer.read(tmp_path / f"{stage.producer}.attest.pem"))
    worker = Worker(stage.consumer, [say_it], units=stage.units(stage.consumer), amqp_url=url, trust=trust)
    stage.start(worker.run())
    try:
        yield Floor(stage, asker, worker, SayIt, calls)
    finally:
        await asker.close()
        await stage.close()
        await remove_topology(stage, SayIt)


async def remove_topology(stage: Stage, contract: type[Command]) -> None:
    connection = await aio_pika.connect(stage.servers.amqp_url)
    async with connection:
        channel = await connection.channel()
        for service in (stage.consumer, stage.producer):
            for name in ("resend_facts.v1", "restate_rows.v1", command_name(contract)):
                await channel.queue_delete(f"work.{service}.{name}")
            for seconds in (1, 5, 25, 125):
                await channel.queue_delete(f"{retry_exchange(service)}.{seconds}")
            await channel.queue_delete(dead_letters(service))
            for exchange in (work_exchange(service), retry_exchange(service), dead_letters(service)):
                await channel.exchange_delete(exchange)
            await channel.queue_delete(f"facts.{service}")


async def test_a_command_is_done_with_the_rights_of_who_asks(floor: Floor) -> None:
    caller = Caller(new_id(), "user", "u-1")
    reply = await floor.asker.ask(floor.command("hello"), floor.stage.consumer, Done, caller=caller, timeout=20)
    assert (reply.refused, reply.by, reply.organization_id) == (None, "u-1", caller.organization_id)
    assert await floor.stage.value(floor.stage.consumer, "select organization_id from seen") == caller.organization_id


async def test_a_refusal_is_an_answer_and_without_an_asker_a_dead_letter(floor: Floor) -> None:
    reply = await floor.asker.ask(floor.command("no"), floor.stage.consumer, Done, timeout=20)
    assert (reply.refused, reply.detail) == ("not_now", "not now")
    assert await floor.dead() == 0
    await floor.asker.send(floor.command("no"), floor.stage.consumer, caller=Caller(new_id(), "user", "u"))

    async def buried() -> bool:
        return await floor.dead() == 1

    await until(buried)
    assert floor.calls == ["no", "no"]
    assert await replay_dead(floor.stage.servers.amqp_url, floor.stage.consumer) == 1

    async def buried_again() -> bool:
        return len(floor.calls) == 3 and await floor.dead() == 1

    await until(buried_again)


async def test_what_fails_is_tried_again_and_done_once(floor: Floor) -> None:
    reply = await floor.asker.ask(floor.command("stumble"), floor.stage.consumer, Done, timeout=30)
    assert reply.refused is None
    assert floor.calls == ["stumble", "stumble"]
    assert await floor.stage.value(floor.stage.consumer, "select count(*) from seen") == 1


async def test_the_same_message_twice_is_done_once_and_answered_twice(floor: Floor) -> None:
    caller = Caller(new_id(), "user", "u")
    answers: list[bytes] = []
    on_reply = floor.asker._on_reply
    connection = await aio_pika.connect(floor.stage.servers.amqp_url)
    async with connection:
        channel = await connection.channel()
        spy = await channel.declare_queue(exclusive=True)
        await spy.bind(work_exchange(floor.stage.consumer), "#")
        await floor.asker.ask(floor.command("once"), floor.stage.consumer, Done, caller=caller, timeout=20)
        copy = await spy.get(timeout=5)
        mine = await channel.declare_queue(exclusive=True)
        await mine.bind("replies", "replies.spy")
        message = aio_pika.Message(
            copy.body, headers=copy.headers, message_id=copy.message_id, correlation_id="c", reply_to="replies.spy"
        )
        exchange = await channel.get_exchange(work_exchange(floor.stage.consumer))
        await exchange.publish(message, command_name(floor.contract))
        async with asyncio.timeout(20):
            while (answer := await mine.get(fail=False)) is None:  # noqa: ASYNC110  (basic.get has no event)
                await asyncio.sleep(0.02)
        answers.append(answer.body)
    assert floor.calls == ["once"]
    assert Done.model_validate_json(answers[0]).organization_id == caller.organization_id
    assert on_reply is not None


async def test_a_forged_or_foreign_grant_is_refused(floor: Floor, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_keys(other, {floor.stage.producer: ("attest",)})
    forger = Asker(
        floor.stage.producer, floor.stage.servers.amqp_url, Signer.read(other / f"{floor.stage.producer}.attest.pem")
    )
    reply = await forger.ask(floor.command("hello"), floor.stage.consumer, Done, timeout=20)
    await forger.close()
    assert reply.refused == "wrong_grant"
    assert floor.calls == []


async def test_nobody_there_is_unavailable(floor: Floor) -> None:
    with pytest.raises(UnavailableError):
        await floor.asker.ask(floor.command("hello"), "nowhere", Done, timeout=5)
    with pytest.raises(UnavailableError, match="did not answer"):
        await floor.asker.ask(RestateRows(noun="x"), floor.stage.producer, Done, timeout=1)
    assert (await floor.asker.ask(floor.command("hello"), floor.stage.consumer, Done, timeout=20)).refused is None


async def test_rows_are_restated_and_facts_resent_on_request(floor: Floor, tmp_path: Path) -> None:
    fact = happened(floor.stage.producer)
    organization_id = new_id()
    await floor.stage.emit(fact, range(5), [organization_id])
    stage = floor.stage
    stage.start(stage.relay().run())

    async def published() -> bool:
        return await stage.value(stage.producer, "select count(*) from fact_log") == 5

    await until(published)

    async def restate(uow: UnitOfWork, of: UUID | None) -> int:
        assert of is None
        await uow.become(Caller.system(organization_id, "restate"))
        uow.emit(fact(number=77))
        return 1

    resender = Resender(stage.dsn(stage.producer, "relay"))
    worker = Worker(
        stage.producer, [], units=stage.units(stage.producer), amqp_url=stage.servers.amqp_url,
        trust=Trust.read(tmp_path / "trust.json"), resend=resender.answer, restate={"thing": restate},
    )  # fmt: skip
    stage.start(worker.run())
    page = await ask_by(floor.asker)(stage.producer, 2, 4)
    assert len(page.messages) == 3
    assert (await restate_by(floor.asker)(stage.producer, "thing")).count == 1
    with pytest.raises(UnavailableError, match="unknown_noun"):
        await restate_by(floor.asker)(stage.producer, "other")
    assert await stage.value(stage.producer, "select count(*) from fact_log") >= 5
    await resender.close()
