from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest
from libs.spine.tests.stage import Stage, delete_stream, happened, recorder, until
from sqlalchemy import text

from chassis.errors import UnavailableError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.chassis import FactsResent
from spine.facts import FactLoop, ReceivedFact, on
from spine.outbox import new_epoch
from spine.stream import stream_of

pytestmark = pytest.mark.anyio

COUNT = "select count(*) from seen"


async def count(stage: Stage, wanted: int) -> None:
    async def there() -> bool:
        return await stage.value(stage.consumer, COUNT) >= wanted

    await until(there)
    assert await stage.value(stage.consumer, COUNT) == wanted


async def sequence(stage: Stage, wanted: int) -> None:
    """Until the relay has numbered and published that many."""

    async def there() -> bool:
        return await stage.value(stage.producer, "select confirmed from fact_head") == wanted

    await until(there)


async def stop(stage: Stage, *tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
        stage.tasks.remove(task)
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_facts_of_many_organizations_arrive_once_in_order(stage: Stage) -> None:
    fact, other = happened(stage.producer), happened(stage.producer, "ignored")
    organizations = [new_id() for _ in range(3)]
    await stage.emit(fact, range(100), organizations)
    relay = stage.relay()
    stage.start(relay.run())
    stage.start(stage.loop(recorder(fact)).run())
    await stage.emit(other, range(10), organizations)
    await stage.emit(fact, range(100, 200), organizations, per=1, units=stage.units(stage.producer, wake=relay.wake))
    await count(stage, 200)
    assert await stage.numbers() == list(range(200))
    log = await stage.sql(
        stage.producer, "select sequence, organization_id, organization_sequence, epoch from fact_log order by sequence"
    )
    assert [row["sequence"] for row in log] == list(range(1, 211))
    for organization_id in organizations:
        own = [row["organization_sequence"] for row in log if row["organization_id"] == organization_id]
        assert own == list(range(1, len(own) + 1))
    rows = await stage.sql(stage.consumer, "select organization_id, number, caused_by from seen")
    ids = {
        row["id"]: row["organization_id"]
        for row in await stage.sql(stage.producer, "select id, organization_id from fact_log")
    }
    assert all(row["organization_id"] == organizations[row["number"] % 3] == ids[row["caused_by"]] for row in rows)


async def test_rivals_and_broken_connections_lose_and_double_nothing(stage: Stage) -> None:
    fact, organizations = happened(stage.producer), [new_id(), new_id()]
    for _ in range(2):
        stage.start(stage.relay().run())
        stage.start(stage.loop(recorder(fact)).run())
    for round_number in range(6):
        await stage.emit(fact, range(round_number * 100, round_number * 100 + 100), organizations, per=7)
        await stage.sql(
            stage.producer,
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%relay%'",
        )
        await stage.sql(
            stage.consumer,
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1",
            f"test {stage.consumer}",
        )
    await count(stage, 600)
    assert await stage.numbers() == [row["number"] for row in await stage.sql(
        stage.producer, "select (convert_from(body, 'utf8')::json->'data'->>'number')::int as number from fact_log order by sequence"
    )]  # fmt: skip
    assert sorted(await stage.numbers()) == list(range(600))


async def test_poison_is_parked_and_can_be_replayed(stage: Stage) -> None:
    fact, organization_id = happened(stage.producer), new_id()
    await stage.emit(fact, range(50), [organization_id])
    await stage.emit(fact, [50], [organization_id], problem="nul")
    await stage.emit(fact, [51], [organization_id], problem="refuse")
    await stage.emit(fact, range(52, 100), [organization_id])
    stage.start(stage.relay().run())
    loop = stage.loop(recorder(fact))
    stage.start(loop.run())
    await count(stage, 98)
    assert await stage.numbers() == [*range(50), *range(52, 100)]
    parked = await stage.sql(stage.consumer, "select sequence, error from parked_fact order by sequence")
    assert [row["sequence"] for row in parked] == [51, 52]
    assert "never" in parked[1]["error"]
    assert [tuple(row) for row in await stage.sql(stage.consumer, "select * from parked_organizations()")] == [
        (organization_id, 2)
    ]
    with pytest.raises(Exception, match=r"range|integer"):
        await loop.replay(organization_id)

    mended: list[int] = []

    @on(fact)
    async def mend(uow: UnitOfWork, happened: object) -> None:
        mended.append(happened.number)  # type: ignore[attr-defined]

    assert await stage.loop(mend).replay(organization_id) == 2
    assert mended == [50, 51]
    assert await stage.loop(mend).replay(organization_id) == 0


async def test_a_security_fact_is_never_parked(stage: Stage) -> None:
    fact, revoked, organizations = (
        happened(stage.producer),
        happened(stage.producer, "revoked", is_security=True),
        [new_id()],
    )
    await stage.emit(fact, range(10), organizations)
    await stage.emit(revoked, [10], organizations, problem="refuse")
    await stage.emit(fact, range(11, 20), organizations)
    stage.start(stage.relay().run())
    loop = stage.loop(recorder(fact, revoked))
    task = stage.start(loop.run())

    async def stopped() -> bool:
        return "security" in loop.state["problem"]

    await until(stopped)
    assert await stage.numbers() == list(range(10))
    assert await stage.value(stage.consumer, "select count(*) from parked_fact") == 0
    assert await stage.value(stage.consumer, "select sequence from fact_offset") == 10
    await stop(stage, task)

    @on(fact, revoked)
    async def mended(uow: UnitOfWork, happened: object) -> None:
        await uow.execute(
            text("insert into seen (organization_id, number) values (:o, :n)"),
            {"o": uow.organization_id, "n": happened.number},
        )  # type: ignore[attr-defined]

    stage.start(stage.loop(mended).run())
    await count(stage, 20)
    assert await stage.numbers() == list(range(20))


async def test_a_bad_deployment_stops_instead_of_parking_everything(stage: Stage) -> None:
    fact, organizations = happened(stage.producer), [new_id()]
    await stage.emit(fact, range(5), organizations)
    await stage.emit(fact, range(5, 105), organizations, problem="refuse")
    stage.start(stage.relay().run())
    loop = stage.loop(recorder(fact))
    stage.start(loop.run())

    async def stopped() -> bool:
        return "20 facts in a row" in loop.state["problem"]

    await until(stopped)
    assert await stage.numbers() == list(range(5))
    assert await stage.value(stage.consumer, "select count(*) from parked_fact") == 19
    assert await stage.value(stage.consumer, "select sequence from fact_offset") == 24


async def test_a_fault_of_ours_is_not_blamed_on_the_fact(stage: Stage) -> None:
    fact, organizations = happened(stage.producer), [new_id()]
    await stage.emit(fact, [1], organizations)
    await stage.emit(fact, [2], organizations, problem="broken")
    stage.start(stage.relay().run())
    loop = stage.loop(recorder(fact))
    task = stage.start(loop.run())

    async def stopped() -> bool:
        return "RuntimeError" in loop.state["problem"]

    await until(stopped)
    await stop(stage, task)
    assert await stage.numbers() == []
    assert await stage.value(stage.consumer, "select count(*) from parked_fact") == 0


async def test_a_deleted_stream_is_filled_again_from_the_log(stage: Stage) -> None:
    fact, organizations = happened(stage.producer), [new_id()]
    relay = stage.relay()
    stage.start(relay.run())
    stage.start(stage.loop(recorder(fact)).run())
    await stage.emit(fact, range(100), organizations)
    await count(stage, 100)
    await delete_stream(stage)
    await stage.emit(fact, range(100, 200), organizations)
    await count(stage, 200)
    assert await stage.numbers() == list(range(200))


async def forget(stage: Stage, above: int) -> None:
    """What restoring yesterday's backup does to the producer."""
    await stage.sql(stage.producer, "delete from fact_log where sequence > $1", above)
    await stage.sql(stage.producer, "update fact_head set sequence = $1, confirmed = $1", above)
    await stage.sql(stage.producer, "update organization_head set sequence = $1", above)


async def test_a_restored_producer_goes_on_in_a_new_epoch(stage: Stage) -> None:
    fact, organizations = happened(stage.producer), [new_id()]
    relay = stage.start(stage.relay().run())
    stage.start(stage.loop(recorder(fact)).run())
    await stage.emit(fact, range(30), organizations)
    await count(stage, 30)
    await sequence(stage, 30)
    await stop(stage, relay)
    await forget(stage, 20)
    await stage.emit(fact, range(100, 110), organizations)
    stage.start(stage.relay().run())
    await count(stage, 40)
    assert [
        tuple(row)
        for row in await stage.sql(stage.producer, "select epoch, first_sequence, last_before from fact_epoch")
    ] == [(2, 31, 20)]
    heads = "select sequence, organization_sequence, epoch from fact_log where sequence > 20 order by sequence"
    assert [tuple(row) for row in await stage.sql(stage.producer, heads)] == [(30 + n, n, 2) for n in range(1, 11)]
    assert (await stage.ask(stage.producer, 21, 30)).voids == [(21, 30)]


async def test_a_restore_together_with_a_lost_stream_stops_its_readers_until_a_new_epoch(stage: Stage) -> None:
    fact, organizations = happened(stage.producer), [new_id()]
    relay = stage.start(stage.relay().run())
    loop = stage.loop(recorder(fact))
    stage.start(loop.run())
    await stage.emit(fact, range(30), organizations)
    await count(stage, 30)
    await stop(stage, relay)
    await delete_stream(stage)
    await forget(stage, 20)
    await stage.emit(fact, [100], organizations)
    relay = stage.start(stage.relay().run())

    async def stands_still() -> bool:
        return "restored" in loop.state["problem"]

    await until(stands_still)
    await stop(stage, relay)
    connection = await stage.superuser(stage.producer)
    assert await new_epoch(connection, stream_of(stage.producer), above=30) == 2
    await connection.close()
    await stage.emit(fact, [101], organizations)
    stage.start(stage.relay().run())
    await count(stage, 31)
    assert (await stage.numbers())[-1] == 101


async def test_a_gap_waits_for_its_producer_and_is_never_skipped(stage: Stage) -> None:
    fact, organizations = happened(stage.producer), [new_id()]
    relay = stage.start(stage.relay().run())
    await stage.emit(fact, range(10), organizations)
    await sequence(stage, 10)
    await stop(stage, relay)
    await delete_stream(stage)
    held = await stage.sql(stage.producer, "select * from fact_log where sequence <= 5")
    await stage.sql(stage.producer, "delete from fact_log where sequence <= 5")
    stage.start(stage.relay().run())
    answers = False

    async def ask(producer: str, first: int, last: int) -> FactsResent:
        if not answers:
            raise UnavailableError("nobody there")
        return await stage.ask(producer, first, last)

    loop = stage.loop(recorder(fact), ask=ask)
    stage.start(loop.run())

    async def stands_still() -> bool:
        return "1..5" in loop.state["problem"]

    await until(stands_still)
    assert await stage.numbers() == []
    connection = await stage.superuser(stage.producer)
    await connection.copy_records_to_table("fact_log", records=[tuple(row) for row in held])
    await connection.close()
    answers = True
    await count(stage, 10)
    assert await stage.numbers() == list(range(10))
    assert stage.asked[-1] == (1, 5)


async def test_beyond_retention_a_new_projection_asks_for_a_restatement(stage: Stage) -> None:
    fact, restated, organizations = happened(stage.producer), happened(stage.producer, "restated"), [new_id()]
    relay = stage.start(stage.relay().run())
    await stage.emit(fact, range(10), organizations)
    await sequence(stage, 10)
    await stop(stage, relay)
    await delete_stream(stage)
    await stage.sql(stage.producer, "delete from fact_log where sequence <= 8")
    stage.start(stage.relay().run())
    loop: FactLoop = stage.loop(recorder(fact, restated))
    assert loop.nouns == {"thing"}
    stage.start(loop.run())
    await count(stage, 2)

    async def asked() -> bool:
        return stage.restated == [(stage.producer, "thing")]

    await until(asked)


async def test_batch_handlers_get_lists_of_one_organization(stage: Stage) -> None:
    fact, organizations = happened(stage.producer), [new_id(), new_id()]
    got: list[tuple[UUID, list[int]]] = []

    @on(fact, batch=True)
    async def collect(uow: UnitOfWork, facts: Sequence[ReceivedFact]) -> None:
        assert {received.envelope.organization_id for received in facts} == {uow.organization_id}
        got.append((uow.organization_id, [received.organization_sequence for received in facts]))

    await stage.emit(fact, range(40), organizations)
    stage.start(stage.relay().run())
    stage.start(stage.loop(collect).run())

    async def all_there() -> bool:
        return sum(len(numbers) for _, numbers in got) == 40

    await until(all_there)
    for organization_id in organizations:
        assert [n for o, numbers in got if o == organization_id for n in numbers] == list(range(1, 21))
