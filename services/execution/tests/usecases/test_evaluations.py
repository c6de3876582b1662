from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson
import pytest
from services.execution.tests.engine_stage import EngineStage, make_engine_stage
from services.execution.tests.factories import EVALUATED, WRITER, make_agent
from services.execution.tests.stage import Place, Stage
from services.execution.tests.usecases.test_run_gates import in_force
from services.execution.tests.usecases.test_run_starts import OPEN, rules

from chassis.caller import NOBODY, Caller
from chassis.errors import ConflictError, LimitExceededError, NotFoundError
from chassis.ids import new_id
from chassis.objects import NoObjects, keep_payload
from chassis.rules import DeniedError, Rules
from execution.jobs.evaluations import judge_evaluations
from execution.tables.evaluations import Evaluation
from execution.usecases import agent_versions, evaluation_results, evaluations
from execution.usecases.admission import Admission
from execution.usecases.evaluation_results import Case
from remit_local.testing import Servers

pytestmark = pytest.mark.anyio


async def evaluate(
    stage: Stage, caller: Caller, agent_id: UUID, rules: Rules = OPEN, key: str | None = None
) -> Evaluation:
    async with stage.units.begin(caller) as uow:
        objects = stage.service.api.state.objects
        return await evaluations.evaluate_agent_version(
            uow, agent_id, "current", rules=rules, objects=objects, idempotency_key=key
        )


async def runs_of(stage: Stage, evaluation: Evaluation) -> list[dict[str, Any]]:
    statement = """select r.* from evaluation_result x join run r on r.id = x.run_id where x.evaluation_id = $1
      order by x.position"""
    return [dict(row) for row in await stage.sql(statement, evaluation.id)]


async def end(stage: Stage, run_id: UUID, status: str = "completed", output: Any = None, **more: Any) -> None:
    """As the engine leaves a run that is over."""
    values = {"status": status, "output": orjson.dumps(output) if output is not None else None, **more}
    sets = ", ".join(f"{name} = ${at}" for at, name in enumerate(values, 2))
    await stage.sql(f"update run set {sets}, completed_at = now() where id = $1", run_id, *values.values())


async def look(stage: Stage, place: Place, evaluation: Evaluation) -> Evaluation | None:
    async with stage.units.begin(Caller.system(place.organization_id, "clock")) as uow:
        objects = stage.service.api.state.objects
        return await evaluation_results.judge_evaluation(uow, evaluation.id, objects=objects)


async def due(stage: Stage) -> list[UUID]:
    async with stage.units.begin(Caller.system(NOBODY, "clock")) as uow:
        return [each.id for each in await evaluation_results.find_due(uow)]


async def cases(stage: Stage, place: Place, evaluation: Evaluation) -> list[Case]:
    async with stage.units.begin(place.caller()) as uow:
        _, found = await evaluation_results.get_evaluation(uow, evaluation.agent_id, "1.0.0", evaluation.id)
        return found


async def test_evaluate_agent_version_starts_an_ordinary_run_for_each_eval(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place, config_yaml=EVALUATED)
    caller = place.caller("developer")
    evaluation = await evaluate(stage, caller, agent.id)
    runs = await runs_of(stage, evaluation)
    assert [orjson.loads(run["input"]) for run in runs] == [{"topic": "rivers"}, {"topic": "lakes"}]
    assert {(run["status"], run["trigger_type"], run["semver"], run["created_by"]) for run in runs} == {
        ("queued", "api", "1.0.0", str(caller.user_id))
    }
    assert {orjson.loads(run["limits"])["max_cost_usd_micros"] for run in runs} == {50_000}
    assert (await stage.types(place.organization_id))[-5:] == [
        *["run.queued.v1", "decision.recorded.v1"] * 2, "evaluation.started.v1",
    ]  # fmt: skip
    counted = await stage.sql("select runs from run_month where organization_id = $1", place.organization_id)
    assert counted[0]["runs"] == 2
    assert [(case.result.name, case.status, case.result.verdict) for case in await cases(stage, place, evaluation)] == [
        ("says something", "queued", None), ("says it of the topic", "queued", None),
    ]  # fmt: skip


async def test_an_evaluation_is_judged_as_its_runs_end(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place, config_yaml=EVALUATED)
    evaluation = await evaluate(stage, place.caller(), agent.id)
    one, two = [run["id"] for run in await runs_of(stage, evaluation)]
    assert evaluation.id not in await due(stage)
    await end(stage, one, output={"text": "Rivers flow."})
    assert evaluation.id in await due(stage)
    half = await look(stage, place, evaluation)
    assert half is not None
    assert (half.passed_count, half.completed_at) == (1, None)
    assert evaluation.id not in await due(stage)
    await end(stage, two, output={"text": "Rivers flow."})
    both = await asyncio.gather(*(look(stage, place, evaluation) for _ in range(4)))
    done = [each for each in both if each is not None]
    assert [(each.passed_count, each.failed_count, each.error_count) for each in done] == [(1, 1, 0)]
    assert done[0].completed_at is not None
    assert [case.result.verdict for case in await cases(stage, place, evaluation)] == ["true", "false"]
    told = (await stage.bodies(place.organization_id))[-1]
    assert told["type"] == "execution.evaluation.completed.v1"
    assert (told["data"]["passed_count"], told["data"]["failed_count"]) == (1, 1)


async def test_the_clock_judges_what_is_over(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place, config_yaml=EVALUATED)
    evaluation = await evaluate(stage, place.caller(), agent.id)
    for run in await runs_of(stage, evaluation):
        await end(stage, run["id"], output={"text": "lakes and rivers"})
    await judge_evaluations(stage.service.api.state.objects).run(stage.running)
    found = await stage.sql("select passed_count, completed_at from evaluation where id = $1", evaluation.id)
    assert (found[0]["passed_count"], found[0]["completed_at"] is not None) == (2, True)


async def test_an_eval_without_an_answer_is_an_error_and_outlives_its_run(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place, config_yaml=EVALUATED)
    evaluation = await evaluate(stage, place.caller(), agent.id)
    one, two = [run["id"] for run in await runs_of(stage, evaluation)]
    await end(stage, one, "failed", error_code="model_unavailable")
    await stage.sql("delete from run where id = $1", two)
    done = await look(stage, place, evaluation)
    assert done is not None
    assert (done.error_count, done.completed_at is not None) == (2, True)
    await stage.sql("delete from run where id = $1", one)
    assert [(case.status, case.result.error_code) for case in await cases(stage, place, evaluation)] == [
        ("failed", "model_unavailable"), (None, "run_gone"),
    ]  # fmt: skip


async def test_a_large_output_is_judged_from_where_it_is_kept(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place, config_yaml=EVALUATED)
    evaluation = await evaluate(stage, place.caller(), agent.id)
    one, two = [run["id"] for run in await runs_of(stage, evaluation)]
    objects = stage.service.api.state.objects
    large = {"text": "lakes " * 20_000}
    inline, kept = await keep_payload(objects, place.organization_id, two, large)
    assert inline is None
    await end(stage, two, output_ref=kept)
    await end(stage, one, output_ref=f"{place.organization_id}/{one}/gone")
    done = await look(stage, place, evaluation)
    assert done is not None
    assert (done.passed_count, done.error_count) == (1, 1)
    assert (await cases(stage, place, evaluation))[0].result.error_code == "object_missing"


async def test_an_evaluation_is_all_or_nothing(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place, config_yaml=EVALUATED)
    never = rules(
        place,
        """
apiVersion: policy/v1
type: abac
rules:
  - {rule_name: never, effect: deny, actions: ["agent:execute"]}
""",
    )
    with pytest.raises(DeniedError):
        await evaluate(stage, place.caller(), agent.id, never)
    await stage.subscription(place, runs=1)
    with pytest.raises(LimitExceededError) as refused:
        await evaluate(stage, place.caller(), agent.id)
    assert refused.value.code == "max_executions_per_month"
    for table in ("run", "evaluation", "evaluation_result"):
        assert await stage.sql(f"select 1 from {table} where organization_id = $1", place.organization_id) == []


async def test_evaluate_agent_version_is_refused_where_there_is_nothing_to_ask(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place)
    with pytest.raises(ConflictError) as refused:
        await evaluate(stage, place.caller(), agent.id)
    assert refused.value.code == "no_evals"
    with pytest.raises(NotFoundError):
        await evaluate(stage, place.caller(), new_id())


async def test_the_same_key_evaluates_once(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place, config_yaml=EVALUATED)
    caller = place.caller()
    first = await evaluate(stage, caller, agent.id, key="k")
    assert (await evaluate(stage, caller, agent.id, key="k")).id == first.id
    assert (await evaluate(stage, caller, agent.id)).id != first.id
    other = await make_agent(stage, place, "other", EVALUATED)
    with pytest.raises(ConflictError) as refused:
        await evaluate(stage, caller, other.id, key="k")
    assert refused.value.code == "idempotency_key_reused"


async def test_evaluations_under_way_have_an_end(stage: Stage, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluations, "MAX_OPEN", 1)
    agent = await make_agent(stage, place, config_yaml=EVALUATED)
    evaluation = await evaluate(stage, place.caller(), agent.id)
    with pytest.raises(LimitExceededError) as refused:
        await evaluate(stage, place.caller(), agent.id)
    assert refused.value.code == "too_many_evaluations"
    for run in await runs_of(stage, evaluation):
        await end(stage, run["id"], "cancelled")
    await look(stage, place, evaluation)
    await evaluate(stage, place.caller(), agent.id)


async def test_evaluate_at_the_door(stage: Stage, place: Place) -> None:
    agent = await make_agent(stage, place, config_yaml=EVALUATED)
    path = f"/v1/agents/{agent.id}/versions/current"
    assert (await stage.client(place.caller("viewer")).post(f"{path}/evaluate")).status == 403
    developer = stage.client(place.caller("developer", scopes=["agent:execute", "agent:read"]))
    made = await developer.post(f"{path}/evaluate", headers={"idempotency-key": "k"})
    assert (made.status, made.json()["eval_count"], made.json()["semver"]) == (202, 2, "1.0.0")
    shown = (await developer.get(made.headers["location"])).json()
    assert [(each["name"], each["status"], each["verdict"]) for each in shown["results"]] == [
        ("says something", "queued", None), ("says it of the topic", "queued", None),
    ]  # fmt: skip
    listed = (await developer.get(f"{path}/evaluations")).json()["items"]
    assert [each["id"] for each in listed] == [made.json()["id"]]
    async with stage.units.begin(place.caller()) as uow:
        await agent_versions.create_agent_version(
            uow, agent.id, config_yaml=WRITER, change_summary="", semver=None
        )  # fmt: skip
    assert (await developer.get(f"{path}/evaluations/{made.json()['id']}")).status == 404
    assert (await developer.get(made.headers["location"])).status == 200


async def test_rules_about_starting_runs_hold_for_evaluations(stage: Stage, place: Place) -> None:
    text = """
apiVersion: policy/v1
type: abac
rules:
  - {rule_name: no-runs, effect: deny, actions: ["run:create"], when: '"operator" in principal.roles'}
"""
    await in_force(stage, place, text)
    agent = await make_agent(stage, place, config_yaml=EVALUATED)
    path = f"/v1/agents/{agent.id}/versions/current/evaluate"
    refused = await stage.client(place.caller("operator")).post(path)
    assert (refused.status, refused.code) == (403, "denied_by_policy")
    assert (await stage.client(place.caller("developer")).post(path)).status == 202


@pytest.fixture
async def engine(servers: Servers, anyio_backend: object) -> AsyncIterator[EngineStage]:
    async with make_engine_stage(servers) as made:
        made.spawn(Admission(made.addresses).run())
        yield made


async def test_an_evaluation_at_work(engine: EngineStage) -> None:
    place = await engine.place()
    agent = await engine.agent(
        place,
        "echo",
        """evals:
  - {name: says it again, input: {word: tea}, expect: 'output.said.word == input.word'}
  - {name: says another, input: {word: tea}, expect: 'output.said.word == "coffee"'}
  - {name: has no such thing, input: {word: tea}, expect: 'output.heard'}
""",
    )
    async with engine.unit(place) as uow:
        evaluation = await evaluations.evaluate_agent_version(
            uow, agent.id, "1.0.0", rules=OPEN, objects=NoObjects()
        )  # fmt: skip
        found = [case.result.run_id for case in await evaluation_results.cases_of(uow, evaluation)]
    engine.worker()
    for run_id in found:
        assert (await engine.ended(run_id))["status"] == "completed"
    async with engine.unit(place) as uow:
        done = await evaluation_results.judge_evaluation(uow, evaluation.id, objects=NoObjects())
        assert done is not None
        assert (done.passed_count, done.failed_count, done.error_count) == (1, 1, 1)
