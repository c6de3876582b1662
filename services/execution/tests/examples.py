"""How each route is used."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from services.execution.tests.factories import EVALUATED, HTTP, PAIR, WRITER, agent_file

import spine.testing.stage
from chassis.caller import Caller
from chassis.ids import new_id
from spine.testing.examples import Call, Examples

EXAMPLES = Examples()
AnyStage = spine.testing.stage.Stage


async def workspace_of(stage: AnyStage, caller: Caller) -> UUID:
    """The first workspace of the caller's organization, made if there is none yet."""
    found = await stage.database.value(
        "select id from workspace where organization_id = $1 and promotion_from is null limit 1", caller.organization_id
    )
    if found is not None:
        return UUID(str(found))
    workspace_id = new_id()
    await stage.database.sql(
        """insert into workspace (id, organization_id, name, environment_type, status, max_agents,
        max_concurrent_executions, requires_approval, pii_allowed, encryption_required, retention_days)
        values ($1, $2, 'main', 'development', 'active', 50, 10, false, true, false, 30)""",
        workspace_id,
        caller.organization_id,
    )
    return workspace_id


async def made(stage: AnyStage, caller: Caller, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What a request of the caller made."""
    answer = await stage.client(caller).post(path, body)
    assert answer.status in (200, 201, 202), answer.body
    found: dict[str, Any] = answer.json()
    return found


async def an_agent(stage: AnyStage, caller: Caller, name: str = "") -> dict[str, Any]:
    place = str(await workspace_of(stage, caller))
    body = {"name": name or f"a {new_id()}", "config_yaml": WRITER, "workspace": place}
    return await made(stage, caller, "/v1/agents", body)


async def an_orchestration(stage: AnyStage, caller: Caller) -> dict[str, Any]:
    agent = await an_agent(stage, caller)
    aliases = {alias: {"id": agent["id"]} for alias in ("writer", "editor")}
    place = agent["workspace_id"]
    body = {"name": f"o {new_id()}", "config_yaml": PAIR, "agent_ids": aliases, "workspace": place}
    return await made(stage, caller, "/v1/orchestrations", body)


async def a_run(stage: AnyStage, caller: Caller) -> dict[str, Any]:
    agent = await an_agent(stage, caller)
    return await made(stage, caller, "/v1/runs", {"agent": agent["id"], "input": {"topic": "rivers"}})


async def an_undecided_step(stage: AnyStage, run_id: str, node: str = "agent") -> UUID:
    """Leave a run as a crash in the middle of a write does; the id of the step that nobody knows about."""
    step_id = new_id()
    await stage.database.sql(
        """update run set status = 'waiting', waiting_for = 'decision', started_at = now(), token = 1, last_step = 2,
        waiting_since = now(), dispatched_at = now() where id = $1::uuid""",
        run_id,
    )
    await stage.database.sql(
        """insert into step (retention_class, run_id, organization_id, node, iteration, attempt, id, step_number, kind,
        effects, status, started_at, token)
        select retention_class, id, organization_id, $2, 0, 1, $3, 1, 'agent', 'write', 'needs_decision', now(), 1
        from run where id = $1::uuid""",
        run_id, node, step_id,
    )  # fmt: skip
    return step_id


async def a_waiting_step(stage: AnyStage, run_id: str, node: str, kind: str) -> UUID:
    """Leave a run as a worker does that lets go of it; the id of the step it waits at."""
    step_id = await an_undecided_step(stage, run_id, node)
    await stage.database.sql("update run set waiting_for = $2 where id = $1::uuid", run_id, kind)
    await stage.database.sql("update step set kind = $2, status = 'waiting' where id = $1", step_id, kind)
    return step_id


async def a_credential(stage: AnyStage, caller: Caller) -> dict[str, Any]:
    body = {"name": f"k {new_id()}", "provider": "openai", "secret": "sk-0123456789abcdefghij"}
    return await made(stage, caller, "/v1/model-credentials", body)


PRICE = {
    "provider": "openai-compatible",
    "model_name": "small-*",
    "input_usd_micros_per_million": 150_000,
    "output_usd_micros_per_million": 600_000,
}


async def a_price(stage: AnyStage, caller: Caller) -> dict[str, Any]:
    return await made(stage, caller, "/v1/model-prices", {**PRICE, "model_name": f"m {new_id()}"})


@EXAMPLES.of("create_agent")
async def _create_agent(stage: AnyStage, caller: Caller) -> Call:
    place = await workspace_of(stage, caller)
    return Call(body={"name": "new", "config_yaml": WRITER, "workspace": str(place)})


@EXAMPLES.of("apply_agent")
async def _apply_agent(stage: AnyStage, caller: Caller) -> Call:
    return Call(body={"file": agent_file("new"), "workspace": str(await workspace_of(stage, caller))})


@EXAMPLES.of("get_agent", "delete_agent", "list_agent_versions")
async def _agent(stage: AnyStage, caller: Caller) -> Call:
    return Call({"agent_id": UUID((await an_agent(stage, caller))["id"])})


@EXAMPLES.of("restore_agent")
async def _restore_agent(stage: AnyStage, caller: Caller) -> Call:
    call = await _agent(stage, caller)
    await stage.client(caller).delete(f"/v1/agents/{call.path['agent_id']}")
    return call


@EXAMPLES.of("update_agent")
async def _update_agent(stage: AnyStage, caller: Caller) -> Call:
    call = await _agent(stage, caller)
    return Call(call.path, {"description": "other"}, headers={"if-match": '"1"'})


@EXAMPLES.of("create_agent_version")
async def _create_agent_version(stage: AnyStage, caller: Caller) -> Call:
    return Call((await _agent(stage, caller)).path, {"config_yaml": HTTP})


@EXAMPLES.of("get_agent_version")
async def _get_agent_version(stage: AnyStage, caller: Caller) -> Call:
    return Call({**(await _agent(stage, caller)).path, "semver": "1.0.0"})


async def next_workspace(stage: AnyStage, caller: Caller, *, requires_approval: bool = False) -> UUID:
    """Another workspace of the organization, which takes its agents from the first."""
    first, workspace_id = await workspace_of(stage, caller), new_id()
    await stage.database.sql(
        """insert into workspace (id, organization_id, name, environment_type, status, max_agents, promotion_from,
        max_concurrent_executions, requires_approval, pii_allowed, encryption_required, retention_days)
        values ($1, $2, 'next', 'staging', 'active', 50, $3, 10, $4, true, false, 30)""",
        workspace_id, caller.organization_id, first, requires_approval,
    )  # fmt: skip
    return workspace_id


async def an_evaluated_agent(stage: AnyStage, caller: Caller) -> dict[str, Any]:
    place = str(await workspace_of(stage, caller))
    body = {"name": f"a {new_id()}", "config_yaml": EVALUATED, "workspace": place}
    return await made(stage, caller, "/v1/agents", body)


@EXAMPLES.of("evaluate_agent_version", "list_evaluations")
async def _evaluate_agent_version(stage: AnyStage, caller: Caller) -> Call:
    agent = await an_evaluated_agent(stage, caller)
    return Call({"agent_id": UUID(agent["id"]), "semver": "1.0.0"})


@EXAMPLES.of("get_evaluation")
async def _get_evaluation(stage: AnyStage, caller: Caller) -> Call:
    call = await _evaluate_agent_version(stage, caller)
    path = f"/v1/agents/{call.path['agent_id']}/versions/1.0.0/evaluate"
    return Call({**call.path, "evaluation_id": UUID((await made(stage, caller, path, {}))["id"])})


@EXAMPLES.of("promote_agent")
async def _promote_agent(stage: AnyStage, caller: Caller) -> Call:
    call = await _agent(stage, caller)
    return Call(call.path, {"to_workspace": str(await next_workspace(stage, caller))})


@EXAMPLES.of("list_promotions", "get_promotion")
async def _promotion(stage: AnyStage, caller: Caller) -> Call:
    call = await _agent(stage, caller)
    place = str(await next_workspace(stage, caller, requires_approval=True))
    asked = await made(stage, caller, f"/v1/agents/{call.path['agent_id']}/promote", {"to_workspace": place})
    return Call({**call.path, "promotion_id": UUID(asked["id"])})


@EXAMPLES.of("rollback_agent")
async def _rollback_agent(stage: AnyStage, caller: Caller) -> Call:
    call = await _create_agent_version(stage, caller)
    await made(stage, caller, f"/v1/agents/{call.path['agent_id']}/versions", call.body)
    return Call(call.path, {"reason": "worse"})


@EXAMPLES.of("set_current_agent_version")
async def _set_current_agent_version(stage: AnyStage, caller: Caller) -> Call:
    call = await _create_agent_version(stage, caller)
    await made(stage, caller, f"/v1/agents/{call.path['agent_id']}/versions", call.body)
    return Call(call.path, {"semver": "1.0.0"}, headers={"if-match": '"2"'})


@EXAMPLES.of("create_orchestration")
async def _create_orchestration(stage: AnyStage, caller: Caller) -> Call:
    agent = await an_agent(stage, caller)
    aliases = {alias: {"id": agent["id"]} for alias in ("writer", "editor")}
    place = agent["workspace_id"]
    return Call(body={"name": "new", "config_yaml": PAIR, "agent_ids": aliases, "workspace": place})


@EXAMPLES.of("apply_orchestration")
async def _apply_orchestration(stage: AnyStage, caller: Caller) -> Call:
    place = (await an_agent(stage, caller, "w"))["workspace_id"]
    file = agent_file("new", "agents: {writer: {name: w}, editor: {name: w}}\n" + PAIR)
    return Call(body={"file": file, "workspace": place})


@EXAMPLES.of("get_orchestration", "delete_orchestration", "list_orchestration_versions")
async def _orchestration(stage: AnyStage, caller: Caller) -> Call:
    return Call({"orchestration_id": UUID((await an_orchestration(stage, caller))["id"])})


@EXAMPLES.of("restore_orchestration")
async def _restore_orchestration(stage: AnyStage, caller: Caller) -> Call:
    call = await _orchestration(stage, caller)
    await stage.client(caller).delete(f"/v1/orchestrations/{call.path['orchestration_id']}")
    return call


@EXAMPLES.of("update_orchestration")
async def _update_orchestration(stage: AnyStage, caller: Caller) -> Call:
    call = await _orchestration(stage, caller)
    return Call(call.path, {"description": "other"}, headers={"if-match": '"1"'})


@EXAMPLES.of("create_orchestration_version")
async def _create_orchestration_version(stage: AnyStage, caller: Caller) -> Call:
    longer = PAIR.replace("max_steps: 5", "max_steps: 6")
    return Call((await _orchestration(stage, caller)).path, {"config_yaml": longer})


@EXAMPLES.of("get_orchestration_version")
async def _get_orchestration_version(stage: AnyStage, caller: Caller) -> Call:
    return Call({**(await _orchestration(stage, caller)).path, "semver": "1.0.0"})


@EXAMPLES.of("rollback_orchestration")
async def _rollback_orchestration(stage: AnyStage, caller: Caller) -> Call:
    call = await _create_orchestration_version(stage, caller)
    await made(stage, caller, f"/v1/orchestrations/{call.path['orchestration_id']}/versions", call.body)
    return Call(call.path, {"reason": "worse"})


@EXAMPLES.of("set_current_orchestration_version")
async def _set_current_orchestration_version(stage: AnyStage, caller: Caller) -> Call:
    call = await _create_orchestration_version(stage, caller)
    await made(stage, caller, f"/v1/orchestrations/{call.path['orchestration_id']}/versions", call.body)
    return Call(call.path, {"semver": "1.0.0"}, headers={"if-match": '"2"'})


@EXAMPLES.of("create_model_credential")
async def _create_model_credential(stage: AnyStage, caller: Caller) -> Call:
    return Call(body={"name": "new", "provider": "openai", "secret": "sk-0123456789abcdefghij"})


@EXAMPLES.of("get_model_credential", "delete_model_credential")
async def _model_credential(stage: AnyStage, caller: Caller) -> Call:
    return Call({"model_credential_id": UUID((await a_credential(stage, caller))["id"])})


@EXAMPLES.of("update_model_credential")
async def _update_model_credential(stage: AnyStage, caller: Caller) -> Call:
    call = await _model_credential(stage, caller)
    return Call(call.path, {"secret": "sk-another-0123456789abc"}, headers={"if-match": '"1"'})


@EXAMPLES.of("create_allowed_host")
async def _create_allowed_host(stage: AnyStage, caller: Caller) -> Call:
    return Call(body={"host": "*.example.com"})


@EXAMPLES.of("get_allowed_host", "delete_allowed_host")
async def _allowed_host(stage: AnyStage, caller: Caller) -> Call:
    body = {"host": f"h{new_id()}.example.com"}
    return Call({"allowed_host_id": UUID((await made(stage, caller, "/v1/allowed-hosts", body))["id"])})


@EXAMPLES.of("create_model_price")
async def _create_model_price(stage: AnyStage, caller: Caller) -> Call:
    return Call(body=PRICE)


@EXAMPLES.of("get_model_price", "delete_model_price")
async def _model_price(stage: AnyStage, caller: Caller) -> Call:
    return Call({"model_price_id": UUID((await a_price(stage, caller))["id"])})


@EXAMPLES.of("update_model_price")
async def _update_model_price(stage: AnyStage, caller: Caller) -> Call:
    call = await _model_price(stage, caller)
    return Call(call.path, {"input_usd_micros_per_million": 1}, headers={"if-match": '"1"'})


@EXAMPLES.of("start_run")
async def _start_run(stage: AnyStage, caller: Caller) -> Call:
    agent = await an_agent(stage, caller)
    return Call(body={"agent": agent["id"], "input": {"topic": "rivers"}})


@EXAMPLES.of("start_runs")
async def _start_runs(stage: AnyStage, caller: Caller) -> Call:
    return Call(body={"items": [(await _start_run(stage, caller)).body]})


@EXAMPLES.of("decide_step")
async def _decide_step(stage: AnyStage, caller: Caller) -> Call:
    run = await a_run(stage, caller)
    step_id = await an_undecided_step(stage, run["id"])
    return Call({"run_id": UUID(run["id"]), "step_id": step_id}, body={"outcome": "failed"})


@EXAMPLES.of("signal_run")
async def _signal_run(stage: AnyStage, caller: Caller) -> Call:
    agent = await an_agent(stage, caller)
    text = "apiVersion: orchestration/v1\npattern: sequential\nsteps: [{id: paid, signal: {name: payment}}]\n"
    aliases = {"writer": {"id": agent["id"]}}
    body = {"name": f"o {new_id()}", "config_yaml": text, "agent_ids": aliases, "workspace": agent["workspace_id"]}
    orchestration = await made(stage, caller, "/v1/orchestrations", body)
    run = await made(stage, caller, "/v1/runs", {"orchestration": orchestration["id"]})
    await a_waiting_step(stage, run["id"], "paid", "signal")
    return Call({"run_id": UUID(run["id"])}, body={"name": "payment", "payload": {"euro": 5}})


@EXAMPLES.of("fork_run")
async def _fork_run(stage: AnyStage, caller: Caller) -> Call:
    run = await a_run(stage, caller)
    await an_undecided_step(stage, run["id"])
    return Call({"run_id": UUID(run["id"])}, body={"from_step": "agent"})


@EXAMPLES.of("compare_run")
async def _compare_run(stage: AnyStage, caller: Caller) -> Call:
    call = await _fork_run(stage, caller)
    fork = await made(stage, caller, f"/v1/runs/{call.path['run_id']}/fork", {"from_step": "agent"})
    return Call({"run_id": UUID(fork["id"])})


@EXAMPLES.of("get_run", "list_steps", "cancel_run", "explain_run")
async def _run(stage: AnyStage, caller: Caller) -> Call:
    return Call({"run_id": UUID((await a_run(stage, caller))["id"])})


@EXAMPLES.of("engage_kill_switch")
async def _engage_kill_switch(stage: AnyStage, caller: Caller) -> Call:
    return Call(body={"scope": "run", "target_id": (await a_run(stage, caller))["id"], "reason": "runs away"})


@EXAMPLES.of("get_kill_switch", "release_kill_switch")
async def _kill_switch(stage: AnyStage, caller: Caller) -> Call:
    body = (await _engage_kill_switch(stage, caller)).body
    made = await stage.client(caller).post("/v1/kill-switches", body)
    return Call({"kill_switch_id": UUID(made.json()["id"])})


SCHEDULE = {"cron": "0 3 * * *", "time_zone": "Europe/Berlin", "input": {"topic": "rivers"}}


@EXAMPLES.of("create_schedule")
async def _create_schedule(stage: AnyStage, caller: Caller) -> Call:
    agent = await an_agent(stage, caller)
    return Call(body={**SCHEDULE, "name": f"nightly {new_id()}", "agent": agent["id"]})


@EXAMPLES.of("get_schedule", "delete_schedule", "pause_schedule")
async def _schedule(stage: AnyStage, caller: Caller) -> Call:
    made = await stage.client(caller).post("/v1/schedules", (await _create_schedule(stage, caller)).body)
    return Call({"schedule_id": UUID(made.json()["id"])})


@EXAMPLES.of("resume_schedule")
async def _resume_schedule(stage: AnyStage, caller: Caller) -> Call:
    call = await _schedule(stage, caller)
    await stage.client(caller).post(f"/v1/schedules/{call.path['schedule_id']}/pause")
    return call


@EXAMPLES.of("update_schedule")
async def _update_schedule(stage: AnyStage, caller: Caller) -> Call:
    call = await _schedule(stage, caller)
    return Call(call.path, {"cron": "0 4 * * *"}, headers={"if-match": '"1"'})


@EXAMPLES.of("backfill_schedule")
async def _backfill_schedule(stage: AnyStage, caller: Caller) -> Call:
    call = await _schedule(stage, caller)
    return Call(call.path, {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T12:00:00Z"})


@EXAMPLES.of("watch_run")
async def _watch_run(stage: AnyStage, caller: Caller) -> Call:
    call = await _run(stage, caller)
    await stage.client(caller).post(f"/v1/runs/{call.path['run_id']}/cancel")
    return call


@EXAMPLES.of("watch_runs")
async def _watch_runs(stage: AnyStage, caller: Caller) -> Call:
    return Call(query={"seconds": "0.2"})


@EXAMPLES.of("create_agents")
async def _create_agents(stage: AnyStage, caller: Caller) -> Call:
    return Call(body={"items": [(await _create_agent(stage, caller)).body]})


@EXAMPLES.of("update_agents")
async def _update_agents(stage: AnyStage, caller: Caller) -> Call:
    item = {"id": str((await _agent(stage, caller)).path["agent_id"]), "version": 1, "description": "other"}
    return Call(body={"items": [item]})


@EXAMPLES.of("delete_agents")
async def _delete_agents(stage: AnyStage, caller: Caller) -> Call:
    return Call(body={"items": [str((await _agent(stage, caller)).path["agent_id"])]})


@EXAMPLES.of("create_orchestrations")
async def _create_orchestrations(stage: AnyStage, caller: Caller) -> Call:
    return Call(body={"items": [(await _create_orchestration(stage, caller)).body]})


@EXAMPLES.of("update_orchestrations")
async def _update_orchestrations(stage: AnyStage, caller: Caller) -> Call:
    item = {
        "id": str((await _orchestration(stage, caller)).path["orchestration_id"]),
        "version": 1,
        "description": "other",
    }
    return Call(body={"items": [item]})


@EXAMPLES.of("delete_orchestrations")
async def _delete_orchestrations(stage: AnyStage, caller: Caller) -> Call:
    return Call(body={"items": [str((await _orchestration(stage, caller)).path["orchestration_id"])]})
