from __future__ import annotations

import asyncio
from pathlib import Path

import aio_pika
import asyncpg
import pytest
from libs.spine.tests.stage import Stage, happened, recorder, until
from rstream import schema

from chassis.auth import Signer, Trust, write_keys
from chassis.caller import Caller
from chassis.ids import new_id
from spine import outbox
from spine.fact_message import Attestation, attestation_of, encode, encode_attestation, head_of
from spine.outbox import MOVE, READ, Notifier
from spine.stream import Link, LostError, StreamPlace, stream_of

pytestmark = pytest.mark.anyio


async def move(stage: Stage, head: int, limit: int = 500) -> int:
    connection = await asyncpg.connect(stage.dsn(stage.producer, "relay"))
    try:
        return len(await connection.fetch(MOVE, stream_of(stage.producer), 1, head, limit))
    finally:
        await connection.close()


async def start_head(stage: Stage) -> None:
    await stage.sql(stage.producer, "insert into fact_head values ($1, 1, 0, 0)", stream_of(stage.producer))


async def test_whoever_does_not_know_the_head_moves_nothing(stage: Stage) -> None:
    fact, organizations = happened(stage.producer), [new_id()]
    await start_head(stage)
    await stage.emit(fact, range(10), organizations)
    assert await move(stage, 0, 4) == 4
    with pytest.raises(asyncpg.NotNullViolationError):
        await move(stage, 0)
    assert await stage.value(stage.producer, "select count(*) from outbox") == 6
    assert await stage.value(stage.producer, "select sequence from organization_head") == 4
    assert await move(stage, 4) == 6


async def test_rival_movers_without_any_lock_stay_gapless(stage: Stage) -> None:
    fact, organizations = happened(stage.producer), [new_id(), new_id()]
    await start_head(stage)
    await stage.emit(fact, range(300), organizations)
    refused = 0

    async def mover() -> None:
        nonlocal refused
        connection = await asyncpg.connect(stage.dsn(stage.producer, "relay"))
        while await connection.fetchval("select exists (select from outbox)"):
            head = await connection.fetchval("select sequence from fact_head")
            try:
                await connection.fetch(MOVE, stream_of(stage.producer), 1, head, 7)
            except (asyncpg.NotNullViolationError, asyncpg.DeadlockDetectedError):
                refused += 1
        await connection.close()

    await asyncio.gather(mover(), mover(), mover())
    rows = await stage.sql(
        stage.producer, "select sequence, organization_id, organization_sequence from fact_log order by 1"
    )
    assert [row["sequence"] for row in rows] == list(range(1, 301))
    for organization_id in organizations:
        assert [r["organization_sequence"] for r in rows if r["organization_id"] == organization_id] == list(
            range(1, 151)
        )


async def test_a_late_commit_is_numbered_and_not_lost(stage: Stage) -> None:
    fact, organizations = happened(stage.producer), [new_id()]
    stage.start(stage.relay().run())
    stage.start(stage.loop(recorder(fact)).run())
    units = stage.units(stage.producer)
    async with units.begin(Caller.system(organizations[0], "late")) as uow:
        uow.emit(fact(number=0))
        await uow.become(Caller.system(new_id(), "late"))  # its outbox row is there, its commit is not
        await stage.emit(fact, range(1, 20), organizations)

        async def others() -> bool:
            return await stage.value(stage.consumer, "select count(*) from seen") == 19

        await until(others)

    async def all_there() -> bool:
        return await stage.value(stage.consumer, "select count(*) from seen") == 20

    await until(all_there)
    assert await stage.numbers() == [*range(1, 20), 0]


async def test_numbers_that_were_never_published_come_from_the_log(stage: Stage) -> None:
    fact, organizations = happened(stage.producer), [new_id()]
    await start_head(stage)
    await stage.emit(fact, range(1200), organizations, per=200)
    for head in range(0, 1200, 400):
        assert await move(stage, head, 400) == 400
    stream = stream_of(stage.producer)
    relay = await asyncpg.connect(stage.dsn(stage.producer, "relay"))
    (row,) = await relay.fetch(READ, 1149, 1)
    await relay.close()
    from spine.stream import create_stream

    async with Link(stage.place, "broken relay", (stream,)) as link:
        await create_stream(link.client, stream)
        await link.client.declare_publisher(stream, stage.producer, 0)
        confirmed = asyncio.Event()
        link.client.add_handler(schema.PublishConfirm, lambda _: confirmed.set(), "test")
        await link.client.send_publish_frame(schema.Publish(0, [schema.Message(1150, None, encode(row))]))
        async with asyncio.timeout(10):
            await confirmed.wait()
    stage.start(stage.relay().run())
    stage.start(stage.loop(recorder(fact)).run())

    async def all_there() -> bool:
        return await stage.value(stage.consumer, "select count(*) from seen") == 1200

    await until(all_there)
    assert await stage.numbers() == list(range(1200))
    assert stage.asked == [(1, 1149), (501, 1149), (1001, 1149)]


async def test_only_confirmed_days_beyond_retention_are_dropped(stage: Stage) -> None:
    fact = happened(stage.producer)
    await start_head(stage)
    await stage.emit(fact, range(4), [new_id()])
    await move(stage, 0)
    for day, numbers in (("20200101", "1"), ("20200102", "2, 3")):
        await stage.sql(stage.producer, f"create table fact_log_{day} (like fact_log including all)")
        await stage.sql(
            stage.producer,
            f"with old as (delete from fact_log where sequence in ({numbers}) returning *) insert into fact_log_{day} select * from old",
        )
        await stage.sql(stage.producer, f"update fact_log_{day} set logged_at = '{day} 12:00+00'")
        await stage.sql(stage.producer, f"alter table fact_log_{day} owner to remit_{stage.producer}_owner")
        await stage.sql(
            stage.producer,
            f"alter table fact_log attach partition fact_log_{day} for values from ('{day} 00:00+00') to ('{day} 23:59+00')",
        )
    relay = await asyncpg.connect(stage.dsn(stage.producer, "relay"))
    await relay.execute("update fact_head set confirmed = 2")
    assert await relay.fetchval("select fact_log_drop_days(7)") == 1
    await relay.execute("update fact_head set confirmed = 4")
    assert await relay.fetchval("select fact_log_drop_days(7)") == 1
    assert [row["sequence"] for row in await relay.fetch("select sequence from fact_log")] == [4]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await relay.execute("drop table fact_log")
    await relay.close()
    page = await stage.ask(stage.producer, 1, 4)
    assert (len(page.messages), page.voids) == (1, [(1, 3)])


async def test_the_doors_may_only_add_to_the_outbox_of_their_organization(stage: Stage) -> None:
    mine, other = new_id(), new_id()
    row = "insert into outbox (id, type, organization_id, body) values ($1, 'a.b.c.v1', $2, '')"
    door = await asyncpg.connect(stage.dsn(stage.producer))
    await door.execute(f"set app.organization_id = '{mine}'")
    await door.execute(row, new_id(), mine)
    refused = asyncpg.InsufficientPrivilegeError
    with pytest.raises(refused):
        await door.execute(row, new_id(), other)
    for statement in ("select * from outbox", "delete from outbox", "select * from fact_log", "select * from fact_head",
                      "update organization_head set sequence = 1", "select fact_log_drop_days(0)", "select pos from outbox"):  # fmt: skip
        with pytest.raises(refused):
            await door.execute(statement)
    await door.execute("reset app.organization_id")
    with pytest.raises(refused):
        await door.execute(row, new_id(), mine)
    await door.close()
    batch = await asyncpg.connect(stage.dsn(stage.producer, "batch"))
    await batch.execute(f"set app.organization_ids = '{{{mine},{other}}}'")
    await batch.execute(row, new_id(), other)
    with pytest.raises(refused):
        await batch.execute(row, new_id(), new_id())
    await batch.close()
    relay = await asyncpg.connect(stage.dsn(stage.producer, "relay"))
    assert await relay.fetchval("select count(*) from outbox") == 2
    for statement in ("insert into outbox (id, type, organization_id, body) values (gen_random_uuid(), 'x', gen_random_uuid(), '')",
                      "select * from parked_fact", "select * from inbox", "update fact_log set body = ''", "delete from fact_log"):  # fmt: skip
        with pytest.raises(refused):
            await relay.execute(statement)
    await relay.close()


async def test_no_role_escapes_row_security(stage: Stage) -> None:
    loose = await stage.sql(
        stage.producer,
        "select rolname from pg_roles where rolname like $1 and (rolbypassrls or rolsuper)",
        f"remit_{stage.producer}%",
    )
    assert loose == []
    with_organization = """select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'organization_id'
    where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace = 'public'::regnamespace and not (c.relrowsecurity and c.relforcerowsecurity)"""
    assert await stage.sql(stage.producer, with_organization) == []


async def test_another_process_wakes_the_relay(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "POLL_SECONDS", 8)  # below idle_session_timeout, above what the test waits
    fact, organizations = happened(stage.producer), [new_id()]
    stage.start(stage.relay().run())
    stage.start(stage.loop(recorder(fact)).run())
    await stage.emit(fact, [0], organizations)

    async def there(wanted: int) -> bool:
        return await stage.value(stage.consumer, "select count(*) from seen") == wanted

    await until(lambda: there(1))
    units = stage.units(stage.producer)
    notifier = Notifier(units.engine)
    units.wake_relay = notifier.wake
    for number in range(1, 4):
        await stage.emit(fact, [number], organizations, units=units)
        await until(lambda wanted=number + 1: there(wanted), seconds=4)
    await notifier.close()


async def test_a_plain_amqp_reader_sees_the_same_fact(stage: Stage) -> None:
    fact, organization_id = happened(stage.producer), new_id()
    await stage.emit(fact, [7], [organization_id])
    stage.start(stage.relay().run())

    async def published() -> bool:
        return await stage.value(stage.producer, "select max(confirmed) from fact_head") == 1

    await until(published)
    connection = await aio_pika.connect(stage.servers.amqp_url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=10)
        queue = await channel.get_queue(stream_of(stage.producer))
        got: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
        await queue.consume(got.put, arguments={"x-stream-offset": "first"})
        async with asyncio.timeout(10):
            message = await got.get()
            while "attestation" in message.headers:
                message = await got.get()
    (row,) = await stage.sql(stage.producer, "select * from fact_log")
    wanted = {name: row[name] for name in ("sequence", "organization_sequence", "epoch", "type", "traceparent")}
    wanted |= {"id": str(row["id"]), "organization_id": str(organization_id)}
    assert {name: message.headers[name] for name in wanted} == wanted
    assert message.body == row["body"]


async def test_the_relay_attests_and_the_signature_holds(stage: Stage, tmp_path: Path) -> None:
    trust = Trust.read(write_keys(tmp_path, {stage.producer: ("attest",), "other": ("attest",)}))
    signer = Signer.read(tmp_path / f"{stage.producer}.attest.pem")
    fact = happened(stage.producer)
    await stage.emit(fact, range(3), [new_id()])
    stage.start(stage.relay(signer=signer).run())
    loop = stage.loop(recorder(fact), trust=trust)
    stage.start(loop.run())

    async def attested() -> bool:
        return bool(loop.attested_at)

    await until(attested)
    forged = encode_attestation(stage.producer, 1, 99, "2026-01-01", Signer.read(tmp_path / "other.attest.pem"))
    word = attestation_of(forged)
    assert isinstance(word, Attestation)
    assert not word.proven_by(trust)
    assert attestation_of(b"\x00" * 40) is None
    with pytest.raises(ValueError, match="not a fact"):
        head_of(forged)


async def test_a_link_leaves_its_block_when_something_dies(stage: Stage) -> None:
    async def wait_inside() -> None:
        streams, dsn = (stream_of(stage.producer),), stage.dsn(stage.producer, "relay")
        async with Link(stage.place, "doomed", streams, dsn=dsn) as link:
            await stage.sql(stage.producer, "select pg_terminate_backend($1)", link.database.get_server_pid())
            await asyncio.sleep(20)

    with pytest.raises(LostError, match="database"):
        await wait_inside()
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
    nowhere = StreamPlace("127.0.0.1", 1, "guest", "guest")
    with pytest.raises(OSError):
        async with Link(nowhere, "nowhere", ("x",)):
            pass


def test_a_stream_place_is_read_from_its_url() -> None:
    place = StreamPlace.parse("rabbitmq-stream://us%40er:pa%2Fss@broker:5552/v")
    assert place == StreamPlace("broker", 5552, "us@er", "pa/ss", "v")
    with pytest.raises(ValueError, match="rabbitmq-stream"):
        StreamPlace.parse("amqp://broker/")
