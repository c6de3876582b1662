"""The checks themselves: what they are there to find, they find."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
import pytest
from tests.agents.logging_agent import Call
from tests.chaos import checks, victims
from tests.chaos.platform import Platform
from tests.chaos.scenario import PlannedRun, planned_runs
from tests.chaos.traffic import Organization, Traffic

from contracts.catalog import SERVICES

ENDED = datetime(2026, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.anyio


@dataclass
class Rows:
    """Stands where a platform's databases stand: the same questions, answered from lists."""

    answers: dict[tuple[str, str], list[Any]] = field(default_factory=dict)

    async def query(self, service: str, statement: str, *_: object) -> list[Any]:
        return self.answers.get((service, statement), [])


class Told:
    """Stands where the edge stands."""

    def __init__(self, cost: int) -> None:
        self.cost = cost

    async def send(self, *_: object) -> Mapping[str, int]:
        return {"total_cost_usd_micros": self.cost}


def platform(answers: dict[tuple[str, str], list[Any]]) -> Platform:
    return cast("Platform", Rows(answers))


def ended(run: PlannedRun, run_id: str, **changes: Any) -> dict[str, Any]:
    row = {
        "id": run_id, "organization_id": "org", "status": run.expected.status.value,
        "output": orjson.dumps(run.expected.output), "error_code": run.expected.error_code,
    }  # fmt: skip
    return row | changes


async def test_runs_that_are_lost_doubled_or_end_otherwise_are_found() -> None:
    planned = planned_runs(3, random.Random(5))
    accepted = {run.key: f"run-{number}" for number, run in enumerate(planned)}
    organizations = [Organization("org", "key", accepted=accepted)] * 2
    rows = [ended(run, accepted[run.key]) for run in planned]

    async def found(rows: list[Any]) -> list[str]:
        answers = {("execution", checks.RUNS): rows}
        return await checks.check_runs(platform(answers), organizations, planned)

    assert await found(rows) == []
    assert "is not there" in (await found(rows[1:]))[0]
    assert "is not there" in (await found([rows[0] | {"organization_id": "another"}, *rows[1:]]))[0]
    assert "started twice" in (await found([*rows, rows[0] | {"id": "run-9"}]))[0]
    for change in ({"status": "cancelled"}, {"output": b"1"}, {"error_code": "crash_loop"}):
        assert "ended with" in (await found([rows[0] | change, *rows[1:]]))[0]


async def test_children_that_are_missing_doubled_or_unheard_are_found() -> None:
    step = {"run_id": "r", "node": "n", "iteration": 0, "status": "completed", "children": 1, "told": 1}

    async def found(**changes: Any) -> list[str]:
        return await checks.check_children(platform({("execution", checks.CHILDREN): [step | changes]}))

    assert await found() == []
    assert await found(status="failed", told=0) == []
    assert "has 0 child runs" in (await found(children=0))[0]
    assert "has 2 child runs" in (await found(children=2))[0]
    assert "does not say" in (await found(told=0))[0]
    assert "does not say" in (await found(status="failed"))[0]


def call(key: str, seconds_after: float) -> Call:
    return Call((ENDED + timedelta(seconds=seconds_after)).timestamp(), key, "r", "s", 0, 1, None)


async def test_calls_for_a_step_that_is_stored_are_found() -> None:
    step = {
        "run_id": "r", "node": "s", "iteration": 0, "attempt": 1, "kind": "agent", "status": "completed",
        "model_name": "", "effects": "read", "error_code": None, "updated_at": ENDED,
    }  # fmt: skip

    async def found(steps: list[Any], *calls: Call) -> list[str]:
        return await checks.check_calls(platform({("execution", checks.STEPS): steps}), calls)

    assert await found([step], call("r:s:0", -2), call("r:s:0", -1)) == []
    assert "after its step was stored" in (await found([step], call("r:s:0", -1), call("r:s:0", 0.5)))[0]
    assert "has no step" in (await found([], call("r:s:0", -1)))[0]
    again = step | {"attempt": 2}
    assert "without its calls" in (await found([step, again], call("r:s:0", -1)))[0]
    never = step | {"status": "failed", "error_code": "decided_retry"}
    assert await found([never, again], call("r:s:0", -1)) == []
    lost = step | {"status": "failed", "error_code": "worker_lost"}
    assert "without its calls" in (await found([lost, again], call("r:s:0", -1)))[0]
    assert await found([lost | {"kind": "tool"}, again | {"kind": "tool"}], call("r:s:0", -1)) == []
    write = step | {"effects": "write"}
    assert await found([write], call("r:s:0", -1)) == []
    assert "was done 2 times" in (await found([write], call("r:s:0", -2), call("r:s:0", -1)))[0]
    assert await found([step | {"model_name": "a-model"}]) == []


async def test_facts_that_are_lost_doubled_or_invented_are_found() -> None:
    facts = [(1, number, f"fact-{number}") for number in (1, 2, 3)]
    entries = [{"producer": "billing", "epoch": 1, "sequence": n, "id": f"fact-{n}"} for n in (1, 2, 3)]
    nothing = {(service, checks.PARKED): [(0,)] for service in SERVICES}

    async def found(facts: list[Any], entries: list[Any], more: dict[tuple[str, str], Any] | None = None) -> list[str]:
        answers = {("billing", checks.FACTS): facts, ("audit", checks.ENTRIES): entries}
        return (await checks.check_facts(platform(nothing | answers | (more or {}))))[0]

    assert await found(facts, entries) == []
    assert "is not in audit" in (await found(facts, entries[1:]))[0]
    assert "2 times in audit" in (await found(facts, [*entries, entries[0]]))[0]
    assert "was never a fact" in (await found(facts[:2], entries))[0]
    assert "holes or doubles" in (await found(facts[1:], entries[1:]))[0]
    assert "which is no service" in (await found(facts, [*entries, entries[0] | {"producer": "nobody"}]))[0]
    assert "parked" in (await found(facts, entries, {("policy", checks.PARKED): [(1,)]}))[0]
    leaves = {"entries": 3, "leaves": 3, "last": 2, "size": 3}
    assert await found(facts, entries, {("audit", checks.LEAVES): [leaves]}) == []
    for change in ({"leaves": 2}, {"last": 3}, {"size": 4}):
        assert "leaves" in (await found(facts, entries, {("audit", checks.LEAVES): [leaves | change]}))[0]


class Sum(dict[str, Any]):
    """A row that is asked by name and by place."""

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__("organization" if key == 0 else key)


def sums(steps: int, cost: int) -> list[Any]:
    return [Sum(organization="org", steps=steps, cost=cost)]


async def test_a_micro_dollar_that_is_missing_is_found() -> None:
    places = (
        ("execution", checks.SPENT), ("execution", checks.BY_RUN), ("billing", checks.BOOKED), ("billing", checks.BY_DAY),
    )  # fmt: skip

    async def found(told: int, wrong: tuple[str, str] | None = None, amounts: tuple[int, int] = (3, 100)) -> list[str]:
        answers = {place: sums(*(amounts if place == wrong else (3, 100))) for place in places}
        traffic = cast("Traffic", Told(told))
        return (await checks.check_money(platform(answers), traffic, [Organization("org", "key")]))[0]

    assert await found(100) == []
    assert await found(99)
    for place in places[1:]:
        assert await found(100, place, (3, 99))
        assert await found(100, place, (2, 100))


async def test_a_plan_does_every_kind_as_often_and_repeats_itself() -> None:
    plan = victims.plan(40, random.Random(7))
    kinds = Counter((fault.how, fault.kind) for fault in plan)
    assert set(kinds) == set(victims.KINDS)
    assert set(kinds.values()) == {2, 3}
    assert min(kinds.values()) >= 0.05 * len(plan)
    assert plan == victims.plan(40, random.Random(7))
    assert plan != victims.plan(40, random.Random(8))


async def test_planned_runs_fail_too_and_belong_to_both_organizations() -> None:
    planned = planned_runs(200, random.Random(1))
    assert planned == planned_runs(200, random.Random(1))
    assert {run.expected.status.value for run in planned} == {"completed", "failed"}
    assert Counter(run.organization for run in planned) == {0: 100, 1: 100}
    assert len({run.key for run in planned}) == 200
