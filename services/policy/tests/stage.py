"""Policy on stage: documents as people write them, and the decisions of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import spine.testing.stage
from chassis.caller import Caller
from chassis.clock import utc_now
from chassis.ids import new_id
from contracts.envelope import Envelope, Fact, wrap
from contracts.execution import ApprovalWanted, RunEnded, RunFailed, RunWaitStarted, StepSkipped
from contracts.policy import DECIDED, DecisionRecorded
from pdp.bundle import Bundle
from policy.consumers.decisions import record_decisions
from policy.consumers.runs import request_approvals, withdraw_approvals, withdraw_skipped
from policy.main import build
from policy.settings import Settings
from policy.tables.policies import Policy
from policy.usecases import policies
from spine.facts import ReceivedFact
from spine.testing.stage import staged

DENY = """
apiVersion: policy/v1
type: abac
rules:
  - rule_name: no-risky-agents
    effect: deny
    actions: ["agent:execute"]
    when: resource.attr.risk_level == 'high'
    reason: too-risky
tests:
  - name: a risky agent is not run
    given: {principal: {id: u, roles: [developer]}, action: "agent:execute", resource: {kind: agent, id: a, attr: {risk_level: high}}}
    expect: {decision: deny, rule_name: no-risky-agents}
"""
ALLOW = """
apiVersion: policy/v1
type: rbac
rules:
  - {rule_name: viewers-run, effect: allow, actions: ["agent:execute"], roles: [viewer]}
"""
FAILING = DENY.replace("expect: {decision: deny, rule_name: no-risky-agents}", "expect: {decision: allow}")


class Stage(spine.testing.stage.Stage):
    """What the tests of one module share."""

    async def policy(self, caller: Caller, name: str = "risk", rules_yaml: str = DENY, **fields: Any) -> Policy:
        """A saved policy of the caller's organization."""
        kind = "rbac" if "type: rbac" in rules_yaml else "abac"
        given = {"description": "", "policy_type": kind, "priority": 100, "is_enabled": True}
        async with self.begin(caller) as uow:
            return await policies.create_policy(uow, name=name, rules_yaml=rules_yaml, **(given | fields))

    async def bundle(self, organization_id: UUID) -> Bundle | None:
        """What the organization decides with, compiled from the bytes that were last published."""
        rows = await self.database.sql("select * from policy_bundle where organization_id = $1", organization_id)
        return Bundle.load(bytes(rows[0]["source"]), rows[0]["source_sha256"]) if rows else None

    async def types(self, organization_id: UUID) -> list[str]:
        """What was published of an organization, in order, without the service's name."""
        found = await self.facts(organization_id=organization_id)
        return [envelope.type.removeprefix("policy.") for envelope in found]

    async def record(self, organization_id: UUID, decided: Sequence[DecisionRecorded]) -> None:
        """Let the consumer take these decisions as one batch of its loop."""
        caller = Caller.system(organization_id, "policy.facts")
        received = [_received(organization_id, fact, number) for number, fact in enumerate(decided, 1)]
        async with self.units.begin(caller) as uow:
            await record_decisions.call(uow, received)

    async def ask(self, organization_id: UUID, **fields: Any) -> UUID:
        """Let a run ask for an approval, as the consumer hears of it; returns the request's id."""
        asked = wanted(**fields)
        run_id = fields.get("run_id") or new_id()
        fact = RunWaitStarted(
            run_id=run_id, workspace_id=new_id(), waiting_for="approval", step_ids=[asked.approval_id], approvals=[asked]
        )  # fmt: skip
        async with self.units.begin(Caller.system(organization_id, "policy.facts")) as uow:
            await request_approvals.call(uow, fact)
        return asked.approval_id

    async def skip(self, organization_id: UUID, run_id: UUID, *step_ids: UUID) -> None:
        """Let a run go on without these steps, as one batch of the consumer's loop."""
        known = {
            "run_id": run_id,
            "workspace_id": new_id(),
            "node": "ask",
            "iteration": 0,
            "attempt": 1,
            "kind": "wait",
        }
        facts = [StepSkipped.model_validate(known | {"step_id": step_id}) for step_id in step_ids]
        received = [_received(organization_id, fact, number) for number, fact in enumerate(facts, 1)]
        async with self.units.begin(Caller.system(organization_id, "policy.facts")) as uow:
            await withdraw_skipped.call(uow, received)

    async def end(self, organization_id: UUID, *run_ids: UUID, how: type[RunEnded] = RunFailed) -> None:
        """Let these runs end, as one batch of the consumer's loop."""
        facts = [how(run_id=run_id, workspace_id=new_id(), execution_type="agent") for run_id in run_ids]
        received = [_received(organization_id, fact, number) for number, fact in enumerate(facts, 1)]
        async with self.units.begin(Caller.system(organization_id, "policy.facts")) as uow:
            await withdraw_approvals.call(uow, received)


def wanted(**fields: Any) -> ApprovalWanted:
    """What a run wants approved."""
    step_id, somebody = new_id(), str(new_id())
    given: dict[str, Any] = {
        "approval_id": step_id, "step_id": step_id, "action": "orchestration:execute", "resource_type": "orchestration",
        "resource_id": str(new_id()), "requester_id": somebody, "owner_id": somebody, "digest": "a" * 64,
        "shown": {"amount": 7}, "expires_at": utc_now() + timedelta(hours=1), "rule_name": "approve",
    }  # fmt: skip
    return ApprovalWanted(**(given | {name: value for name, value in fields.items() if name != "run_id"}))


def decided(service: str = "execution", **fields: Any) -> DecisionRecorded:
    """A decision as a service tells of it."""
    given: dict[str, Any] = {
        "decision_id": new_id(), "effect": "deny", "action": "agent:execute", "resource_type": "agent",
        "resource_id": str(new_id()), "principal_type": "user", "principal_id": str(new_id()),
        "rule_name": "no-risky-agents", "bundle_revision": 1,
    }  # fmt: skip
    return DECIDED[service](**(given | fields))


def _received(organization_id: UUID, fact: Fact, sequence: int) -> ReceivedFact:
    producer = fact.type.partition(".")[0]
    body = wrap(
        fact, fact_id=new_id(), source=producer, time=utc_now(), organization_id=organization_id, actor_type="user",
        actor_id="somebody",
    )  # fmt: skip
    return ReceivedFact(fact, Envelope.parse(body), producer, sequence, sequence, 1)


@asynccontextmanager
async def make_stage(postgres_url: str) -> AsyncIterator[Stage]:
    async with staged(build, Settings, "policy", postgres_url) as made:
        yield Stage(made.service, made.running, made.database, made.issuer)
