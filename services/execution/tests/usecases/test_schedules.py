from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from services.execution.tests.factories import make_agent
from services.execution.tests.stage import Place, Stage
from services.execution.tests.usecases.test_run_starts import OPEN, rules

from chassis.caller import NOBODY, Caller
from chassis.clock import utc_now
from chassis.errors import ConflictError, InvalidError, LimitExceededError
from chassis.rules import Rules
from execution.domain.schedules import MissedTicks
from execution.tables.schedules import Schedule
from execution.usecases import schedule_ticks, schedules
from execution.usecases.schedule_ticks import Ticked

pytestmark = pytest.mark.anyio
DENY = """
apiVersion: policy/v1
type: abac
rules:
  - {rule_name: never, effect: deny, actions: ["agent:execute"]}
"""


async def make(stage: Stage, caller: Caller, **fields: Any) -> Schedule:
    given = {
        "name": "nightly", "kind": "agent", "reference": "writer", "workspace": None, "semver": "current",
        "input": {"topic": "rivers"}, "priority": None, "cron": "* * * * *", "time_zone": "UTC",
        "missed_ticks": MissedTicks.ONE, **fields,
    }  # fmt: skip
    async with stage.units.begin(caller) as uow:
        return await schedules.create_schedule(uow, **given)


async def overdue(stage: Stage, schedule: Schedule, minutes: float) -> None:
    """As if nobody had been there for so long."""
    at = utc_now().replace(second=0, microsecond=0) - timedelta(minutes=minutes)
    await stage.sql("update schedule set next_tick_at = $2 where id = $1", schedule.id, at)


async def tick(stage: Stage, schedule: Schedule, rules: Rules = OPEN) -> list[Ticked]:
    async def rules_of(_: UUID) -> Rules:
        return rules

    async with stage.units.begin(Caller.system(schedule.organization_id, "clock")) as uow:
        objects = stage.service.api.state.objects
        return await schedule_ticks.tick_schedule(uow, schedule.id, rules_of=rules_of, objects=objects)


async def row_of(stage: Stage, schedule: Schedule) -> dict[str, Any]:
    return dict((await stage.sql("select * from schedule where id = $1", schedule.id))[0])


async def runs_of(stage: Stage, schedule: Schedule) -> list[dict[str, Any]]:
    return [dict(row) for row in await stage.sql("select * from run where schedule_id = $1 order by id", schedule.id)]


async def test_a_tick_starts_one_run_as_whoever_made_the_schedule(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    caller = place.caller("developer", scopes=["run:*", "agent:*", "schedule:*"])
    schedule = await make(stage, caller)
    assert await tick(stage, schedule) == []  # its moment has not come
    await overdue(stage, schedule, 0)
    (done,) = await tick(stage, schedule)
    (run,) = await runs_of(stage, schedule)
    assert (run["id"], run["trigger_type"], run["tick_at"]) == (done.run_id, "scheduled", done.tick_at)
    assert (run["created_by"], run["status"]) == (str(caller.user_id), "queued")
    assert len(run["traceparent"]) == 55
    row = await row_of(stage, schedule)
    assert (row["last_run_id"], row["last_tick_at"], row["last_error_code"]) == (run["id"], done.tick_at, "")
    assert row["next_tick_at"] > utc_now()
    types = await stage.types(place.organization_id)
    assert types[-4:] == ["schedule.created.v1", "run.queued.v1", "decision.recorded.v1", "schedule.ticked.v1"]
    assert await tick(stage, schedule) == []


async def test_two_clocks_start_one_run(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    made = [await make(stage, place.caller(), name=f"s{n}") for n in range(5)]
    for schedule in made:
        await overdue(stage, schedule, 0)
    results = await asyncio.gather(*(tick(stage, schedule) for schedule in made for _ in range(3)))
    assert sum(len(done) for done in results) == len(made)
    assert [len(await runs_of(stage, schedule)) for schedule in made] == [1] * len(made)


@pytest.mark.parametrize(("missed", "runs"), [(MissedTicks.SKIP, 0), (MissedTicks.ONE, 1), (MissedTicks.ALL, 3)])
async def test_missed_ticks(stage: Stage, place: Place, missed: MissedTicks, runs: int) -> None:
    await make_agent(stage, place)
    schedule = await make(stage, place.caller(), missed_ticks=missed, cron="*/10 * * * *")
    at = utc_now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1) + timedelta(minutes=20)
    await stage.sql("update schedule set next_tick_at = $2 where id = $1", schedule.id, at)
    # The clock stands at three ticks after the oldest that had none: time itself is not to be faked here.
    shifted = await row_of(stage, schedule)
    ticks = await tick(stage, schedule)
    if missed is MissedTicks.ALL:
        assert len(ticks) >= runs
        assert ticks[0].tick_at == shifted["next_tick_at"]
    else:
        assert len(ticks) <= 1
    assert (await row_of(stage, schedule))["next_tick_at"] > utc_now()


async def test_what_is_refused_is_kept_and_the_clock_goes_on(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    schedule = await make(stage, place.caller("developer"))
    await overdue(stage, schedule, 0)
    (done,) = await tick(stage, schedule, rules(place, DENY))
    assert (done.run_id, done.error_code) == (None, "denied_by_policy")
    row = await row_of(stage, schedule)
    assert row["last_error_code"] == "denied_by_policy"
    assert "never" in row["last_error_detail"]
    assert row["next_tick_at"] > utc_now()
    assert await runs_of(stage, schedule) == []
    bodies = await stage.bodies(place.organization_id)
    ticked = next(body for body in bodies if body["type"] == "execution.schedule.ticked.v1")
    decided = next(body for body in bodies if body["type"] == "execution.decision.recorded.v1")
    assert (ticked["data"]["error_code"], decided["data"]["effect"]) == ("denied_by_policy", "deny")
    await overdue(stage, schedule, 0)
    (again,) = await tick(stage, schedule)
    assert again.run_id is not None
    assert (await row_of(stage, schedule))["last_error_code"] == ""


async def test_a_backfill_starts_each_tick_once(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    schedule = await make(stage, place.caller(), cron="0 * * * *")
    end = utc_now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)

    async def rules_of(_: UUID) -> Rules:
        return OPEN

    async def backfill(hours: int) -> list[Ticked]:
        async with stage.units.begin(place.caller()) as uow:
            objects = stage.service.api.state.objects
            return await schedule_ticks.backfill_schedule(
                uow, schedule.id, start=end - timedelta(hours=hours), end=end, rules_of=rules_of, objects=objects
            )

    first = await backfill(3)
    assert len(first) == 3
    again = await backfill(5)
    assert again[-3:] == first
    assert len(await runs_of(stage, schedule)) == 5
    with pytest.raises(InvalidError) as refused:
        await backfill(200)
    assert refused.value.code == "too_many_ticks"


async def test_pausing_and_resuming(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    schedule = await make(stage, place.caller())
    for _ in range(2):
        async with stage.units.begin(place.caller()) as uow:
            await schedules.pause_schedule(uow, schedule.id, reason="holidays")
    assert (await row_of(stage, schedule))["next_tick_at"] is None
    assert await tick(stage, schedule) == []
    for _ in range(2):
        async with stage.units.begin(place.caller()) as uow:
            await schedules.resume_schedule(uow, schedule.id)
    assert (await row_of(stage, schedule))["next_tick_at"] > utc_now()
    types = [kind for kind in await stage.types(place.organization_id) if kind.startswith("schedule")]
    assert types == ["schedule.created.v1", "schedule.paused.v1", "schedule.resumed.v1"]


async def test_whoever_may_not_act_any_more_starts_nothing(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    leaver, other = place.caller("developer"), place.caller("developer")
    theirs, others = await make(stage, leaver), await make(stage, other, name="other")
    async with stage.units.begin(Caller.system(place.organization_id, "facts")) as uow:
        await schedules.give_role(uow, other.user_id or NOBODY, "viewer")
        assert await schedules.pause_schedules_of(uow, leaver.owner_id) == 1
    assert (await row_of(stage, theirs))["pause_reason"] == "owner_gone"
    with pytest.raises(ConflictError):
        async with stage.units.begin(place.caller()) as uow:
            await schedules.resume_schedule(uow, theirs.id)
    await overdue(stage, others, 0)
    (done,) = await tick(stage, others)
    assert done.error_code == "denied_by_policy"  # a viewer runs nothing, by the clock either


async def test_limits(stage: Stage, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await make_agent(stage, place)
    for wrong in ({"cron": "every day"}, {"time_zone": "Mars"}, {"input": {"topic": 7}}):
        with pytest.raises(InvalidError):
            await make(stage, place.caller(), name="bad", **wrong)
    monkeypatch.setattr(schedules, "MAX_SCHEDULES", 1)
    await make(stage, place.caller())
    with pytest.raises(LimitExceededError):
        await make(stage, place.caller(), name="one too many")


async def test_due_schedules_of_all_organizations_are_found(stage: Stage, place: Place) -> None:
    elsewhere = await stage.place()
    for one in (place, elsewhere):
        await make_agent(stage, one)
        await overdue(stage, await make(stage, one.caller()), 0)
    async with stage.units.begin(Caller.system(NOBODY, "clock")) as uow:
        found = await schedule_ticks.find_due(uow)
    assert {due.organization_id for due in found} >= {place.organization_id, elsewhere.organization_id}


async def test_who_sees_no_inputs_of_runs_sees_none_of_schedules(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    schedule = await make(stage, place.caller())
    path = f"/v1/schedules/{schedule.id}"
    seen = (await stage.client(place.caller("operator")).get(path)).json()
    assert (seen["input"], seen["masked"]) == ({"topic": "rivers"}, [])
    viewer = stage.client(place.caller("viewer"))
    hidden = (await viewer.get(path)).json()
    assert (hidden["input"], hidden["masked"]) == (None, ["input", "output"])
    assert "rivers" not in (await viewer.get("/v1/schedules")).body.decode()
