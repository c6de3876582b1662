"""Facts as identity, execution and gateway publish them, and how billing receives them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from billing.main import build
from billing.settings import Settings
from chassis.caller import Caller
from chassis.ids import new_id
from contracts.envelope import Envelope, Fact, wrap
from contracts.execution import RunQueued, StepCompleted, StepEnded, StepFailed
from contracts.identity import OrganizationCreated, OrganizationState, UserCreated
from spine.facts import ReceivedFact
from spine.testing.stage import Stage, unstarted

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HANDLERS = unstarted(build, Settings, "billing").consumers


def organization(
    organization_id: UUID, kind: type[OrganizationState] = OrganizationCreated, **fields: Any
) -> OrganizationState:
    values = {
        "organization_id": organization_id, "version": 1, "name": "Acme", "slug": "acme", "status": "active",
        "plan_tier": "free", "created_by": "platform", **fields,
    }  # fmt: skip
    return kind(**values)


def step(kind: type[StepEnded] = StepCompleted, **fields: Any) -> StepEnded:
    failed = {"error_code": "agent_failed", "will_retry": True} if kind is StepFailed else {}
    values = {
        "run_id": new_id(), "workspace_id": new_id(), "owner_id": "ann", "step_id": new_id(), "node": "draft",
        "iteration": 0, "attempt": 1, "kind": "agent", "agent_id": None, "agent_semver": "1.0.0", "provider": "embedded",
        "model_name": "tiny", "input_tokens": 10, "output_tokens": 5, "cost_usd_micros": 7, "price_version": "1",
        "started_at": NOON, "ended_at": NOON, **failed, **fields,
    }  # fmt: skip
    return kind(**values)


def queued(**fields: Any) -> RunQueued:
    values = {
        "run_id": new_id(), "workspace_id": new_id(), "owner_id": "ann", "execution_type": "agent", "semver": "1.0.0",
        "config_digest": "0" * 64, "trigger_type": "api", "triggered_by": "ann", "decision_id": new_id(),
        "root_run_id": new_id(), **fields,
    }  # fmt: skip
    return RunQueued(**values)


def user(version: int = 1, kind: type[Any] = UserCreated, user_id: UUID | None = None, **fields: Any) -> Any:
    return kind(**{"user_id": user_id or new_id(), "version": version, "role": "viewer", "status": "active", **fields})


def received(organization_id: UUID, fact: Fact, time: datetime = NOON) -> ReceivedFact:
    source = fact.type.partition(".")[0]
    body = wrap(
        fact, fact_id=new_id(), source=source, time=time, organization_id=organization_id, actor_type="system",
        actor_id="test",
    )  # fmt: skip
    return ReceivedFact(fact, Envelope.parse(body), source, 1, 1, 1)


async def receive_batch(stage: Stage, organization_id: UUID, *facts: Fact, time: datetime = NOON) -> None:
    """Let the batch consumers take the facts at once, in a unit of work as their loop would."""
    for handler in HANDLERS:
        some = [received(organization_id, fact, time) for fact in facts if type(fact) in handler.facts]
        if handler.batch and some:
            async with stage.begin(Caller.system(organization_id, "billing.facts")) as uow:
                await handler.call(uow, some)


async def subscribed(stage: Stage, caller: Caller | None = None, **fields: Any) -> UUID:
    """An organization that has its subscription."""
    organization_id = caller.organization_id if caller else await stage.organization()
    await stage.receive(organization_id, organization(organization_id, **fields))
    return organization_id
