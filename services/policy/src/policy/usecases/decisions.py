"""Decisions: kept as the services record them, simulated for whoever writes rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from chassis.uow import UnitOfWork
from contracts.policy import DecisionRecorded
from pdp.bundle import Bundle
from pdp.decide import decide
from pdp.matrix import ORGANIZATION_ROLES, allowed
from pdp.request import ApprovalRule, DecisionRequest, Principal, RunContext
from pdp.request import Decision as Verdict
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
_RECORD = """insert into decision (organization_id, id, service, effect, action, resource_type, resource_id,
  principal_type, principal_id, rule_name, policy_id, bundle_revision, reason, obligations, error, run_id, decided_at,
  created_by)
select $1, id, service, effect, action, resource_type, resource_id, principal_type, principal_id, rule_name, policy_id,
  bundle_revision, reason, obligations::jsonb, error, run_id, decided_at, created_by
from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
  $10::text[], $11::uuid[], $12::integer[], $13::text[], $14::text[], $15::boolean[], $16::uuid[], $17::timestamptz[],
  $18::text[])
as made (id, service, effect, action, resource_type, resource_id, principal_type, principal_id, rule_name, policy_id,
  bundle_revision, reason, obligations, error, run_id, decided_at, created_by)
on conflict do nothing"""


async def record_decisions(uow: UnitOfWork, facts: Sequence[tuple[DecisionRecorded, str, datetime]]) -> None:
    """Keep decisions of the organization, each once: `(fact, service, time)`.

    Plain SQL over arrays: every start of a run brings one, and SQLAlchemy compiles a multi-row INSERT anew each time.
    """
    columns = zip(*(_row(*each) for each in facts), strict=True)
    await uow.fetch(_RECORD, uow.organization_id, *map(list, columns))


def _row(fact: DecisionRecorded, service: str, time: datetime) -> tuple[Any, ...]:
    return (
        fact.decision_id, service, fact.effect, fact.action, fact.resource_type, fact.resource_id, fact.principal_type,
        fact.principal_id, fact.rule_name, fact.policy_id, fact.bundle_revision, fact.reason,
        orjson.dumps(fact.obligations).decode(), fact.error, fact.run_id, time, fact.owner_id or fact.principal_id,
    )  # fmt: skip


async def get_decision(uow: UnitOfWork, decision_id: UUID) -> Decision:
    """One decision."""
    return await uow.get(Decision, decision_id)


def approvers_of(rule: ApprovalRule) -> frozenset[str]:
    """Who may open a gate, by name; where it names nobody, whose role decides about everything."""
    if rule.approvers is not None:
        return rule.approvers
    deciders = (role for role in ORGANIZATION_ROLES if allowed((role,), "approval:decide") == "yes")
    return frozenset(f"role:{role}" for role in deciders)


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
