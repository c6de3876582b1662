from __future__ import annotations

from uuid import UUID

import asyncpg
import pytest
from services.audit.tests.factories import NOON, TRACE, Producer, completed, note, queued, store

from audit.domain.leaves import leaf_hash
from audit.usecases import coverage
from chassis.clock import utc_now
from chassis.ids import new_id
from contracts.audit import GapDetected, GapHealed
from contracts.execution import RunFailed
from spine.fact_message import Attestation
from spine.parking import is_poison, park
from spine.reading import Gap
from spine.sink import SINK
from spine.testing.stage import Stage

pytestmark = pytest.mark.anyio


async def rows(stage: Stage, organization_id: UUID) -> list[asyncpg.Record]:
    return await stage.database.sql(
        "select * from entry where organization_id = $1 order by leaf_index", organization_id
    )


async def test_a_fact_is_stored_as_it_was_committed(stage: Stage) -> None:
    organization_id, run_id, producer = await stage.organization(), new_id(), Producer()
    failed = RunFailed(
        run_id=run_id, workspace_id=new_id(), execution_type="agent", owner_id="bob", error_code="agent_failed"
    )
    fact = producer.raw(organization_id, failed)
    await store(stage, [fact])
    (row,) = await rows(stage, organization_id)
    assert row["body"] == fact.body
    assert row["leaf_hash"] == leaf_hash("execution", 1, 1, 1, fact.body)
    assert (row["id"], row["run_id"], row["workspace_id"]) == (fact.id, run_id, failed.workspace_id)
    assert (row["occurred_at"], row["trace_id"]) == (NOON, TRACE.split("-")[1])
    assert (row["event_type"], row["resource_type"], row["resource_id"]) == (RunFailed.type, "run", str(run_id))
    assert (row["action"], row["result"], row["error_message"]) == ("failed", "failure", "agent_failed")
    assert (row["actor_type"], row["actor_id"], row["owner_id"]) == ("user", "ann", "bob")
    assert (row["producer"], row["epoch"], row["sequence"], row["organization_sequence"]) == ("execution", 1, 1, 1)
    assert row["retention_class"] == 365


async def test_leaves_count_an_organizations_entries_of_all_producers(stage: Stage) -> None:
    ours, theirs = await stage.organization(), await stage.organization()
    producers = [Producer("execution"), Producer("identity")]
    for _ in range(3):
        await store(stage, [producer.raw(one, completed()) for producer in producers for one in (ours, theirs, ours)])
    for organization_id, count in ((ours, 12), (theirs, 6)):
        assert [row["leaf_index"] for row in await rows(stage, organization_id)] == list(range(count))


async def test_thousands_at_once_keep_their_order(stage: Stage) -> None:
    organization_id, producer = await stage.organization(), Producer()
    facts = [producer.raw(organization_id, completed()) for _ in range(1234)]
    await store(stage, facts)
    stored = await rows(stage, organization_id)
    assert [row["id"] for row in stored] == [fact.id for fact in facts]
    assert [row["body"] for row in stored] == [fact.body for fact in facts]


@pytest.mark.parametrize(
    "broken", [b"not json", b"[]", b"null", b"{}", b'{"data": null, "subject": "a/b", "actor": {"type": "a", "id": "b"}}']
)  # fmt: skip
async def test_what_is_no_fact_is_poison_and_nothing_of_its_batch_is_stored(stage: Stage, broken: bytes) -> None:
    organization_id, producer = await stage.organization(), Producer()
    facts = [producer.raw(organization_id, body) for body in (completed(), broken, completed())]
    with pytest.raises(Exception) as refused:
        await store(stage, facts)
    assert is_poison(refused.value)
    assert await rows(stage, organization_id) == []


async def test_an_id_of_another_age_is_poison(stage: Stage) -> None:
    old = UUID("01800000-0000-7000-8000-000000000000")
    with pytest.raises(ValueError, match="out of range"):
        await store(stage, [Producer().raw(await stage.organization(), completed(), fact_id=old)])


async def test_a_nul_in_a_text_is_kept_in_the_bytes(stage: Stage) -> None:
    organization_id = await stage.organization()
    fact = Producer().raw(organization_id, completed(owner_id="a\0b"), actor="x" * 4000)
    await store(stage, [fact])
    (row,) = await rows(stage, organization_id)
    assert row["owner_id"] == "a�b"
    assert (len(row["actor_id"]), row["body"]) == (200, fact.body)


async def test_an_organization_sees_what_it_misses(stage: Stage) -> None:
    caller, producer = await stage.caller("org_owner"), Producer()
    facts = [producer.raw(caller.organization_id, completed()) for _ in range(6)]

    async def seen() -> tuple[int, int, int, int]:
        answer = (await stage.client(caller).get("/v1/audit/coverage")).json()
        (mark,) = answer["producers"]
        assert mark["producer"] == "execution"
        return mark["highest_sequence"], mark["contiguous_sequence"], mark["missing"], mark["quarantined"]

    await store(stage, facts[:2])
    assert await seen() == (2, 2, 0, 0)
    async with stage.database.connect("ingest") as connection:
        await park(connection, facts[2], ValueError("broken"), reader=SINK)
    await store(stage, facts[3:5])
    assert await seen() == (5, 2, 1, 1)
    await store(stage, facts[5:])
    assert await seen() == (6, 2, 1, 1)
    restored = Producer(epoch=2)
    await store(stage, [restored.raw(caller.organization_id, queued()) for _ in range(3)])
    assert await seen() == (3, 3, 0, 1)


async def test_no_role_changes_an_entry(stage: Stage) -> None:
    organization_id = await stage.organization()
    await store(stage, [Producer().raw(organization_id, completed())])
    leaf = f"entry_365_{utc_now():%Y%m}"
    for role in ("", "batch", "relay", "sweep", "ingest", "owner"):
        async with stage.database.connect(role) as connection:
            await connection.execute("select set_config('app.organization_id', $1, false)", str(organization_id))
            for table in ("entry", leaf):
                for change in (f"update {table} set actor_id = 'nobody'", f"delete from {table}", f"truncate {table}"):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await connection.execute(change)
    assert len(await rows(stage, organization_id)) == 1


async def test_the_writer_reads_nothing_and_the_doors_write_nothing(stage: Stage) -> None:
    leaf = f"entry_365_{utc_now():%Y%m}"
    statements = {
        "ingest": ("select 1 from entry", f"select 1 from {leaf}", "select 1 from outbox", "insert into entry default values"),
        "": (f"select 1 from {leaf}", f"insert into {leaf} default values", "insert into entry default values"),
    }  # fmt: skip
    for role, refused in statements.items():
        async with stage.database.connect(role) as connection:
            for statement in refused:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)


async def test_a_gap_is_told_when_it_is_found_and_when_it_is_healed(stage: Stage) -> None:
    platform = await stage.organization()
    await note(stage, Gap("billing", 4, 900, healed=False))

    async def tell() -> None:
        async with stage.begin(coverage.teller(platform)) as uow:
            await coverage.announce_gaps(uow)

    async def told() -> list[tuple[str, int, int]]:
        found = await stage.facts(GapDetected, GapHealed, organization_id=platform)
        return [(fact.type, fact.data["first"], fact.data["last"]) for fact in found]

    await tell()
    await tell()
    assert await told() == [(GapDetected.type, 4, 900)]
    await note(stage, Gap("billing", 4, 503, healed=True), Gap("billing", 504, 900, healed=True))
    await note(stage, Gap("billing", 4, 503, healed=True))
    await tell()
    await tell()
    assert (await told())[1:] == [
        (GapHealed.type, 4, 503), (GapDetected.type, 504, 900), (GapHealed.type, 504, 900),
    ]  # fmt: skip


async def test_the_platform_sees_every_producer(stage: Stage) -> None:
    await note(
        stage,
        Attestation("policy", 1, 40, "2026-11-22T12:00:00+00:00"),
        Attestation("policy", 1, 44, "2026-11-22T12:00:05+00:00"),
        Gap("policy", 7, 9, healed=False),
    )
    parked = Producer("policy", sequence=11).raw(await stage.organization(), b"broken")
    await stage.database.sql(
        "insert into fact_offset values ($1, 42, 3, 1), ($2, 9, 3, 1)", SINK + "facts.policy", "facts.policy"
    )
    async with stage.database.connect("ingest") as connection:
        await park(connection, parked, ValueError("broken"), reader=SINK)
    auditor = await stage.caller("platform_auditor")
    answer = await stage.client(auditor).get("/v1/platform/audit/coverage")
    policy = {item["producer"]: item for item in answer.json()["items"]}["policy"]
    assert policy.pop("attestation_age_seconds") > 0
    assert policy == {
        "producer": "policy", "attested_sequence": 44, "contiguous_sequence": 42, "open_gaps": 1, "quarantined": 1,
    }  # fmt: skip
