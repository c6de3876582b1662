"""What a decision is asked about, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

Obligation = Mapping[str, Any]
APPROVAL_SECONDS: Final = 86_400.0
"""How long an approval waits where neither a rule nor the organization says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks."""

    id: str
    """The user; for a key, the user whose key it is. Compared with a row's owner."""
    kind: Literal["user", "api_key", "system"]
    organization_id: str
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    """Permissions a key is narrowed to; empty means all that its roles hold."""
    teams: frozenset[str] = frozenset()
    team: str | None = None
    mfa: bool = False
    auth_age_s: int = 0
    chain: tuple[str, ...] = ()
    """Who acts for whom, the first asker first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What it is about; without an id, all of its kind or one that is yet to be made."""

    kind: str
    organization_id: str
    id: str = ""
    attr: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """The run that a decision is for; what is None is not known to conditions."""

    estimated_cost_usd: float | None = None
    depth: int | None = None
    trigger: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRequest:
    """One question: whether this principal may do this action to this resource, now."""

    principal: Principal
    action: str
    """A permission: `agent:execute`."""
    resource: Resource
    organization_id: str
    now: datetime
    organization_status: str = "active"
    run: RunContext | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    """Where it came from: `{"ip": ...}`."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of one rule, and its truth for this request: None is an error, and `error` says which."""

    policy_id: str | None
    rule_name: str
    effect: str
    text: str
    truth: bool | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalRule:
    """Who opens a gate, and how long it is waited for."""

    approvers: frozenset[str] | None
    """As `role:<role>` or `user:<id>`, any one of them; None: everybody with the right to decide."""
    expires_in_seconds: float | None
    """None, of a rule: it does not say; a decision always does."""
    gates: tuple[str, ...] = ()
    """Of a decision: the rules that are open once it is approved, as `<policy id>/<rule name>`; earlier ones too."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, with the rule that gave it."""

    effect: Literal["allow", "deny", "require_approval"]
    rule_name: str
    reason: str
    bundle_revision: int
    """0 where the organization has no bundle."""
    policy_id: str | None = None
    """None where the system itself decided."""
    obligations: tuple[Obligation, ...] = ()
    error: bool = False
    """An expression had no value, and the decision is the tighter for it."""
    own_only: bool = False
    """The question was about a kind, and reaches only certain rows: show each row to a decision of its own."""
    approval: ApprovalRule | None = None
    """Of `require_approval`: once somebody has approved, decide again with its gates as `approved`."""
    clauses: tuple[Clause, ...] = ()
    """Filled on request: the truth of every clause that could have mattered."""

    @property
    def is_allowed(self) -> bool:
        """Whether it may be done."""
        return self.effect == "allow"

    def limits(self) -> dict[str, float]:
        """The strictest value of each `set` among the obligations: `{"run.max_cost_usd": 1.0}`."""
        strictest: dict[str, float] = {}
        for obligation in self.obligations:
            for name, value in obligation.get("set", {}).items():
                strictest[name] = min(value, strictest.get(name, value))
        return strictest

    def masked(self) -> tuple[str, ...]:
        """The fields to hide from whoever is shown the row."""
        return tuple(name for obligation in self.obligations for name in obligation.get("mask", ()))
