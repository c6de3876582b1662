"""Decisions: kept as the services record them, simulated for whoever writes rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert

from chassis.uow import UnitOfWork
from contracts.policy import DecisionRecorded
from pdp.bundle import Bundle
from pdp.decide import decide
from pdp.request import Decision as Verdict
from pdp.request import DecisionRequest, Principal, RunContext
from pdp.request import Resource as Subject
from policy.tables.decisions import Decision
from policy.usecases.bundles import get_bundle
from resources.listing import Resource, counter, lister

DECISIONS = Resource(
    Decision,
    filters=(
        "effect",
        "service",
        "action",
        "resource_type",
        "resource_id",
        "principal_type",
        "principal_id",
        "rule_name",
        "policy_id",
        "error",
        "run_id",
        "decided_at",
    ),
    sorts=("id",),
    default_sort="-id",
)
list_decisions = lister(DECISIONS)
count_decisions = counter(DECISIONS)
_ROWS_PER_STATEMENT = 1000
"""PostgreSQL takes 32,767 parameters, which is 1,820 rows of these."""


async def record_decisions(uow: UnitOfWork, facts: Sequence[tuple[DecisionRecorded, str, datetime]]) -> None:
    """Keep decisions of the organization, each once: `(fact, service, time)`."""
    rows = [
        {
            **fact.model_dump(exclude={"decision_id", "owner_id"}),
            "id": fact.decision_id,
            "organization_id": uow.organization_id,
            "service": service,
            "decided_at": time,
            "created_by": fact.owner_id or fact.principal_id,
        }
        for fact, service, time in facts
    ]
    for start in range(0, len(rows), _ROWS_PER_STATEMENT):
        some = rows[start : start + _ROWS_PER_STATEMENT]
        await uow.execute(insert(Decision).values(some).on_conflict_do_nothing())


async def get_decision(uow: UnitOfWork, decision_id: UUID) -> Decision:
    """One decision."""
    return await uow.get(Decision, decision_id)


async def simulate_decision(
    uow: UnitOfWork,
    *,
    principal: Mapping[str, Any],
    action: str,
    resource: Mapping[str, Any],
    run: Mapping[str, Any] | None,
    request: Mapping[str, Any],
) -> Verdict:
    """What would be decided now, with the truth of every clause; nothing is recorded and nothing is done."""
    row = await get_bundle(uow)
    bundle = Bundle.load(row.source) if row else None
    organization_id = str(uow.organization_id)
    question = DecisionRequest(
        principal=Principal(organization_id=organization_id, **principal),
        action=action,
        resource=Subject(organization_id=organization_id, **resource),
        organization_id=organization_id,
        run=RunContext(**run) if run is not None else None,
        request=dict(request),
        now=uow.now,
    )
    return decide(question, bundle, explain=True)
