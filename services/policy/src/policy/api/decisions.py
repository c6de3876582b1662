"""Routes of decisions: those that were taken, and what would be decided."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Depends, Response
from pydantic import BaseModel, Field

from chassis.http import Router, Uow
from pdp.request import ApprovalRule
from pdp.request import Decision as Verdict
from policy.tables.decisions import Decision
from policy.usecases import decisions
from resources.bodies import In
from resources.http import CountOut, Listing
from resources.listing import ListQuery

router = Router("decision", prefix="/v1")
Name = Annotated[str, Field(max_length=100)]
Names = Annotated[frozenset[Name], Field(max_length=100)]


class DecisionOut(BaseModel):
    """Who asked what, and which rule answered."""

    id: UUID
    organization_id: UUID
    service: str
    effect: str
    action: str
    resource_type: str
    resource_id: str
    principal_type: str
    principal_id: str
    rule_name: str
    policy_id: UUID | None
    bundle_revision: int
    reason: str
    obligations: list[dict[str, Any]]
    error: bool
    run_id: UUID | None
    decided_at: datetime

    @classmethod
    def of(cls, row: Decision) -> Self:
        """The public form of a row."""
        return cls.model_validate(row, from_attributes=True)


class PrincipalIn(In):
    """Who would ask."""

    id: Name
    kind: Literal["user", "api_key", "system"] = "user"
    roles: Names = frozenset()
    scopes: Names = frozenset()
    teams: Names = frozenset()
    team: Name | None = None
    mfa: bool = False


class ResourceIn(In):
    """What it would be about."""

    kind: Name
    id: Name = ""
    attr: dict[str, Any] = {}


class RunIn(In):
    """The run it would be for."""

    estimated_cost_usd: float | None = None
    depth: int | None = None
    trigger: Name | None = None
    model: Name | None = None


class SimulateDecisionIn(In):
    """A question."""

    principal: PrincipalIn
    action: str = Field(description="A permission, such as `agent:execute`.", max_length=100)
    resource: ResourceIn
    run: RunIn | None = None
    request: dict[str, str] = Field({}, description="Where it would come from: `{ip}`.")


class ClauseOut(BaseModel):
    """One clause of one rule, and its truth for this question."""

    policy_id: str | None
    rule_name: str
    effect: str
    text: str
    truth: bool | None = Field(description="null: it has no value; `error` says why.")
    error: str


class ApprovalRequiredOut(BaseModel):
    """By whom it would have to be approved first, and how long that would be waited for."""

    approvers: list[str] = Field(description="`role:<role>` and `user:<id>`: any one of them, but not who asks.")
    expires_in_seconds: float
    gates: list[str] = Field(description="The rules that ask for it, as `<policy id>/<rule name>`.")

    @classmethod
    def of(cls, rule: ApprovalRule) -> Self:
        """The public form of what a decision says of its approval."""
        approvers = sorted(decisions.approvers_of(rule))
        return cls(approvers=approvers, expires_in_seconds=rule.expires_in_seconds or 0, gates=list(rule.gates))


class SimulationOut(BaseModel):
    """What would be decided."""

    effect: str
    rule_name: str
    policy_id: str | None
    reason: str
    bundle_revision: int
    obligations: list[dict[str, Any]]
    error: bool
    own_only: bool = Field(description="Asked about a kind, it is allowed for certain rows only: ask about each.")
    approval: ApprovalRequiredOut | None = Field(description="Of `require_approval`; null otherwise.")
    clauses: list[ClauseOut]

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        """The public form of a decision."""
        approval = ApprovalRequiredOut.of(verdict.approval) if verdict.approval else None
        names = cls.model_fields.keys() - {"approval", "clauses"}
        told = {name: getattr(verdict, name) for name in names}
        clauses = [ClauseOut.model_validate(clause, from_attributes=True) for clause in verdict.clauses]
        return cls.model_validate(told | {"approval": approval, "clauses": clauses})


DECISION_LIST = Listing(decisions.DECISIONS, DecisionOut)


@router.get("/decisions", permission="decision:read", **DECISION_LIST.options)
async def list_decisions(uow: Uow, query: Annotated[ListQuery, Depends(DECISION_LIST.query)]) -> Response:
    """Decisions that were recorded: every denial, and every one about a run."""
    return DECISION_LIST.answer(await decisions.list_decisions(uow, query))


@router.get("/decisions/count", permission="decision:read")
async def count_decisions(uow: Uow, query: Annotated[ListQuery, Depends(DECISION_LIST.query)]) -> CountOut:
    """How many decisions such a list would show."""
    return CountOut(count=await decisions.count_decisions(uow, query))


@router.get("/decisions/{decision_id}", permission="decision:read")
async def get_decision(uow: Uow, decision_id: UUID) -> DecisionOut:
    """One decision."""
    return DecisionOut.of(await decisions.get_decision(uow, decision_id))


@router.post("/policies/simulate", permission="policy:simulate")
async def simulate_decision(uow: Uow, body: SimulateDecisionIn) -> SimulationOut:
    """What the organization's rules would decide now, clause by clause; nothing is recorded."""
    return SimulationOut.of(
        await decisions.simulate_decision(
            uow,
            principal=dict(body.principal),
            action=body.action,
            resource=dict(body.resource),
            run=dict(body.run) if body.run else None,
            request=body.request,
        )
    )
