from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from services.execution.tests.factories import HTTP, PAIR, WRITER, ids, make_agent
from services.execution.tests.stage import Place, Stage

from chassis.caller import Caller
from chassis.errors import ConflictError, InvalidError, LimitExceededError, NotFoundError, TooLargeError
from chassis.objects import INLINE_BYTES, NoObjects, Objects, read_payload
from chassis.rules import DeniedError, Rules
from execution.tables.runs import Run
from execution.usecases import orchestrations, runs
from execution.usecases.runs import RunRequest, start_run
from execution.usecases.runs_bulk import Asked, start_runs
from pdp.bundle import Bundle, BundleDocument

pytestmark = pytest.mark.anyio
POLICY = "00000000-0000-7000-8000-000000000001"
OPEN = Rules("active", 0, None, 0)


async def start(
    stage: Stage,
    caller: Caller,
    reference: str = "writer",
    *,
    rules: Rules = OPEN,
    objects: Objects | None = None,
    key: str | None = None,
    **fields: Any,
) -> Run:
    asked = {"kind": "agent", "input": {"topic": "rivers"}, **fields}
    async with stage.units.begin(caller) as uow:
        objects = objects or stage.service.api.state.objects
        return await start_run(
            uow, RunRequest(reference=reference, **asked), rules=rules, objects=objects, idempotency_key=key
        )


def rules(organization: Place, text: str) -> Rules:
    document = BundleDocument(policy_id=POLICY, name="p", priority=10, rules_yaml=text)
    bundle = Bundle.compile(str(organization.organization_id), 7, [document])
    return Rules("active", 7, bundle, 0)


async def test_start_run_queues_it_with_everything_pinned(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    caller = place.caller("developer")
    run = await start(stage, caller)
    row = (await stage.sql("select * from run where id = $1", run.id))[0]
    assert row["status"] == "queued"
    assert row["retention_class"] == 30
    assert row["triggered_by"] == row["created_by"] == str(caller.user_id)
    assert orjson.loads(row["input"]) == {"topic": "rivers"}
    assert orjson.loads(row["pins"]) == {
        "self": {"agent_id": str(agent.id), "version_id": str(agent.current_version_id), "semver": "1.0.0"}
    }
    limits = orjson.loads(row["limits"])
    assert (limits["max_cost_usd_micros"], limits["max_tokens"], limits["timeout_seconds"]) == (50_000, 2000, 60)
    assert row["root_run_id"] == run.id
    assert row["dispatched_at"] is None
    queued, decided = (await stage.bodies(place.organization_id))[-2:]
    assert queued["type"] == "execution.run.queued.v1"
    assert queued["traceparent"] == caller.traceparent
    assert decided["type"] == "execution.decision.recorded.v1"
    assert decided["data"]["effect"] == "allow"
    assert decided["data"]["run_id"] == str(run.id)
    assert decided["data"]["decision_id"] == queued["data"]["decision_id"] == str(row["decision_id"])


async def test_a_denial_among_many_is_on_record_as_one_alone_is(stage: Stage, place: Place) -> None:
    await make_agent(stage, place, risk_level="high")
    await make_agent(stage, place, name="other")
    denies = rules(
        place,
        """
apiVersion: policy/v1
type: abac
rules:
  - {rule_name: no-high-risk, effect: deny, actions: ["agent:execute"], when: 'resource.attr.risk_level == "high"'}
""",
    )
    asked = [
        Asked(RunRequest(kind="agent", reference=reference, input={"topic": "rivers"}))
        for reference in ("writer", "other", "writer")
    ]
    async with stage.units.begin(place.caller("developer")) as uow:
        results = await start_runs(uow, asked, rules=denies, objects=NoObjects())
    assert [result.status for result in results] == [403, 202, 403]
    decided = [body["data"] for body in await stage.bodies(place.organization_id) if "decision" in body["type"]]
    assert sorted((one["effect"], one["rule_name"]) for one in decided) == [
        ("allow", "role-matrix"),
        ("deny", "no-high-risk"),
    ]


async def test_a_rule_denies_and_no_run_is_left(stage: Stage, place: Place) -> None:
    await make_agent(stage, place, risk_level="high")
    denies = rules(
        place,
        """
apiVersion: policy/v1
type: abac
rules:
  - {rule_name: no-high-risk, effect: deny, actions: ["agent:execute"], when: 'resource.attr.risk_level == "high"',
     reason: too-risky}
""",
    )
    with pytest.raises(DeniedError) as denied:
        await start(stage, place.caller(), rules=denies)
    assert denied.value.decision.rule_name == "no-high-risk"
    assert await stage.sql("select id from run where organization_id = $1", place.organization_id) == []
    assert "run.queued.v1" not in await stage.types(place.organization_id)


async def test_a_viewer_may_not_start_anything(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    with pytest.raises(DeniedError):
        await start(stage, place.caller("viewer"))


async def test_obligations_tighten_the_runs_limits(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    caps = rules(
        place,
        """
apiVersion: policy/v1
type: abac
rules:
  - rule_name: cheap
    effect: obligate
    actions: ["agent:execute"]
    obligations: [{set: {run.max_cost_usd: 0.01, run.max_tokens: 9000, run.timeout_seconds: 5}}]
""",
    )
    run = await start(stage, place.caller(), rules=caps)
    assert run.limits["max_cost_usd_micros"] == 10_000
    assert run.limits["max_tokens"] == 2000
    assert run.limits["timeout_seconds"] == 5
    assert run.decision["bundle_revision"] == 7


async def test_the_input_must_fit_the_schema(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    with pytest.raises(InvalidError) as refused:
        await start(stage, place.caller(), input={"topic": 7})
    assert refused.value.errors[0]["loc"] == ["input", "topic"]


async def test_the_same_key_and_body_give_the_same_run(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    caller = place.caller()
    first = await start(stage, caller, key="k")
    again = await start(stage, caller, key="k")
    other = await start(stage, place.caller(), key="k")
    assert again.id == first.id
    assert other.id != first.id
    with pytest.raises(ConflictError) as refused:
        await start(stage, caller, key="k", input={"topic": "lakes"})
    assert refused.value.code == "idempotency_key_reused"


async def test_two_requests_with_one_key_at_once_make_one_run(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    caller = place.caller()
    results = await asyncio.gather(*(start(stage, caller, key="k") for _ in range(6)), return_exceptions=True)
    made = {result.id for result in results if isinstance(result, Run)}
    refused = [result for result in results if isinstance(result, ConflictError)]
    assert len(made) == 1
    assert len(made) + len(refused) <= len(results)
    assert all(error.code == "request_in_flight" for error in refused)
    assert len(await stage.sql("select id from run where organization_id = $1", place.organization_id)) == 1


async def test_a_key_is_forgotten_after_a_day(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    caller = place.caller()
    first = await start(stage, caller, key="k")
    await stage.sql("update idempotency_key set expires_at = now() where organization_id = $1", place.organization_id)
    assert (await start(stage, caller, key="k")).id != first.id


async def test_the_months_number_of_runs_is_exact_under_concurrency(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    await stage.subscription(place, runs=5)

    results = await asyncio.gather(*(start(stage, place.caller()) for _ in range(12)), return_exceptions=True)
    assert sum(isinstance(result, Run) for result in results) == 5
    refused = [result for result in results if isinstance(result, LimitExceededError)]
    assert [error.code for error in refused] == ["max_executions_per_month"] * 7
    assert len(await stage.sql("select id from run where organization_id = $1", place.organization_id)) == 5


async def test_a_large_input_becomes_a_sealed_object(stage: Stage, place: Place) -> None:
    await make_agent(stage, place, config_yaml=HTTP)
    large = {"text": "river " * 20_000}
    run = await start(stage, place.caller(), input=large)
    assert run.input is None
    assert run.input_ref is not None
    stored = (stage.directory / "objects" / run.input_ref).read_bytes()
    assert b"river" not in stored
    assert await read_payload(run.input, run.input_ref, stage.service.api.state.objects) == large
    with pytest.raises(TooLargeError):
        await start(stage, place.caller(), input={"text": "x" * 4_200_000})
    with pytest.raises(TooLargeError):
        await start(stage, place.caller(), input={"text": "x" * INLINE_BYTES}, objects=NoObjects())


async def test_an_orchestrations_run_pins_its_agents(stage: Stage) -> None:
    place = await stage.place(retention_days=91)
    writer, editor = await make_agent(stage, place, "w"), await make_agent(stage, place, "e")
    async with stage.units.begin(place.caller()) as uow:
        await orchestrations.create_orchestration(
            uow, config_yaml=PAIR, workspace="main", name="pair", agent_ids=ids(writer=writer, editor=editor), fields={}
        )
    run = await start(stage, place.caller(), "pair", kind="orchestration", workspace="main")
    assert set(run.pins) == {"writer", "editor"}
    assert (run.execution_type, run.agent_id, run.priority, run.retention_class) == ("orchestration", None, 3, 365)
    assert run.limits["max_steps"] == 5


async def test_what_is_not_meant_to_run_does_not(stage: Stage, place: Place) -> None:
    await make_agent(stage, place, "draft", status="draft")
    await make_agent(stage, place, "leaky", WRITER.replace("one sentence", "sk-" + "c3" * 15))
    for name, code in (("draft", "not_active"), ("leaky", "security_scan_failed")):
        with pytest.raises(ConflictError) as refused:
            await start(stage, place.caller(), name)
        assert refused.value.code == code
    with pytest.raises(NotFoundError):
        await start(stage, place.caller(), "nobody")


async def test_nothing_runs_in_a_workspace_that_is_gone(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    await stage.sql("update workspace set status = 'deleted' where id = $1", place.workspace_id)
    with pytest.raises(ConflictError) as refused:
        await start(stage, place.caller(), str(agent.id))
    assert refused.value.code == "workspace_gone"


async def test_cancelling_a_queued_run_ends_it_and_twice_changes_nothing(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    run = await start(stage, place.caller())
    for _ in range(2):
        async with stage.units.begin(place.caller()) as uow:
            cancelled = await runs.cancel_run(uow, run.id, reason="changed my mind")
    assert (cancelled.status, cancelled.stop_reason) == ("cancelled", "cancelled")
    assert cancelled.completed_at is not None
    told = await stage.types(place.organization_id)
    assert told[-2:] == ["run.cancel_requested.v1", "run.cancelled.v1"]
    assert told.count("run.cancelled.v1") == 1


async def test_cancelling_a_running_run_leaves_the_end_to_its_worker(stage: Stage, place: Place) -> None:
    await make_agent(stage, place)
    run = await start(stage, place.caller())
    await stage.sql("update run set status = 'running' where id = $1", run.id)
    async with stage.units.begin(place.caller()) as uow:
        assert (await runs.cancel_run(uow, run.id, reason="")).status == "cancelling"
    assert (await stage.types(place.organization_id))[-1] == "run.cancel_requested.v1"
    await stage.sql("update run set status = 'completed' where id = $1", run.id)
    async with stage.units.begin(place.caller()) as uow:
        with pytest.raises(ConflictError) as refused:
            await runs.cancel_run(uow, run.id, reason="")
    assert refused.value.code == "invalid_transition"
