"""A decision: guards, final denials, the organization's rules by priority, then the role matrix. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from pdp.bundle import Assignee, BoundRule, Bundle, Lane, Tier
from pdp.cel import ExpressionError, plain
from pdp.matrix import GRANTS, MASKED_FIELDS, PLATFORM_ROLES, holds
from pdp.request import ApprovalRule, Clause, Decision, DecisionRequest, Obligation, Principal, Resource, RunContext

__all__ = ["Clause", "Decision", "DecisionRequest", "Principal", "Resource", "RunContext", "decide"]

GUARD_RULE: Final = "system-guard"
MATRIX_RULE: Final = "role-matrix"
DEFAULT_RULE: Final = "default-deny"

_CLOSED: Final = frozenset(("suspended", "deleted"))
_OWNER: Final = "org_owner"
_OWNER_MARKS: Final = ("role", "role_after", "owner_role")
_OWNERS_ONLY: Final = frozenset(
    ("user:create", "user:invite", "user:update", "user:delete", "user:activate", "user:suspend", "user:restore")
) | frozenset(("api_key:create", "api_key:update", "api_key:rotate"))


def decide(
    request: DecisionRequest, bundle: Bundle | None, *, approved: Collection[str] = (), explain: bool = False
) -> Decision:  # fmt: skip
    """Whether the principal may do it, and by which rule; with `explain`, the truth of each clause as well.

    `approved` are the gates (`Decision.approval.gates`) that somebody has opened: these do not ask again, and oblige as
    before.
    """
    reason = _guard(request, bundle)
    if reason:
        return Decision("deny", GUARD_RULE, reason, bundle.revision if bundle else 0)
    scan = _Scan(request, bundle, approved)
    decision = scan.decide()
    return replace(decision, clauses=tuple(scan.clauses())) if explain else decision


def _guard(request: DecisionRequest, bundle: Bundle | None) -> str:
    """The reason why no rule is even asked; empty when there is none."""
    principal, action, resource = request.principal, request.action, request.resource
    if request.organization_status in _CLOSED:
        return f"organization_{request.organization_status}"
    grants = GRANTS.get(action)
    if grants is None:
        return "unknown_permission"
    noun = action.partition(":")[0]
    if resource.kind != noun:
        return "kind_mismatch"
    if principal.scopes and not _in_scope(principal.scopes, action, noun):
        return "scope_missing"
    if principal.organization_id != request.organization_id or (
        bundle is not None and bundle.organization_id != request.organization_id
    ):
        return "organization_mismatch"
    if resource.organization_id != request.organization_id and not any(
        role in grants for role in PLATFORM_ROLES if role in principal.roles
    ):
        return "organization_mismatch"
    if action in _OWNERS_ONLY and _OWNER not in principal.roles and _is_about_owner(resource.attr):
        return "owners_only"
    return ""


def _in_scope(scopes: frozenset[str], action: str, noun: str) -> bool:
    return action in scopes or f"{noun}:*" in scopes


def _is_about_owner(attr: Mapping[str, Any]) -> bool:
    return any(attr.get(mark) == _OWNER for mark in _OWNER_MARKS)


class _Scan:
    """One request on its way through the rules."""

    __slots__ = ("_approved", "_bound", "_bundle", "_keys", "_lane", "_request", "_roles")

    def __init__(self, request: DecisionRequest, bundle: Bundle | None, approved: Collection[str]) -> None:
        self._request, self._approved = request, approved
        self._bundle = bundle
        self._roles = bundle.roles_of(request.principal.roles) if bundle else request.principal.roles
        self._lane: Lane | None = bundle.lane(request.action, self._roles) if bundle else None
        self._keys: frozenset[Assignee] | None = None
        self._bound: Any = None

    def decide(self) -> Decision:
        """The first answer in the documented order."""
        duties: list[Obligation] = []
        gates: list[BoundRule] = []
        error = False
        if self._lane is not None:
            denial = self._denial(self._lane.final_denials)
            if denial:
                return denial
            for tier in self._lane.tiers:
                denial = self._denial(tier.denials) or self._close(tier, gates)
                if denial:
                    return denial
                error |= self._gather(tier, duties)
                allowance = self._allowance(tier, duties, error=error)
                if allowance:
                    return self._gated(allowance, gates)
        return self._gated(self._by_matrix(duties, error=error), gates)

    def _denial(self, rules: tuple[BoundRule, ...]) -> Decision | None:
        for rule in rules:
            truth = self._truth(rule)
            if truth is not False:
                return self._by_rule("deny", rule, (), error=truth is not True)
        return None

    def _close(self, tier: Tier, gates: list[BoundRule]) -> Decision | None:
        """Keep the gates that hold: nobody gains a right by asking. One whose condition fails denies."""
        for rule in tier.gates:
            truth = self._truth(rule)
            if truth is True:
                gates.append(rule)
            elif truth is not False:
                return self._by_rule("deny", rule, (), error=True)
        return None

    def _gated(self, decision: Decision, gates: list[BoundRule]) -> Decision:
        """What would be allowed, behind its gates: open to whoever may open all of them, as long as the shortest.

        One that is open already asks nobody, but obliges as the others do.
        """
        if not gates or not decision.is_allowed or decision.own_only:
            return decision
        duties = *decision.obligations, *(duty for rule in gates for duty in rule.obligations)
        decision = replace(decision, obligations=duties)
        closed = [rule for rule in gates if _gate(rule) not in self._approved]
        asked = [(rule, rule.rule.approval) for rule in closed if rule.rule.approval is not None]
        if not asked or self._bundle is None:
            return decision
        first, named = asked[0][0], [each.approvers for _, each in asked if each.approvers is not None]
        approvers = frozenset.intersection(*named) if named else None
        if approvers is not None and not approvers:
            return replace(self._by_rule("deny", first, (), error=False), reason="nobody_may_approve")
        seconds = min(self._bundle.approval_seconds(each.expires_in_seconds) for _, each in asked)
        return replace(
            decision,
            effect="require_approval",
            rule_name=first.rule.rule_name,
            policy_id=first.policy_id,
            reason=first.rule.reason,
            approval=ApprovalRule(approvers, seconds, tuple(_gate(rule) for rule in gates)),
        )

    def _gather(self, tier: Tier, duties: list[Obligation]) -> bool:
        """Add what the tier obliges to. A duty whose condition fails is kept: it can only tighten."""
        error = False
        for rule in tier.duties:
            truth = self._truth(rule)
            if truth is not False:
                duties.extend(rule.obligations)
                error |= truth is not True
        return error

    def _allowance(self, tier: Tier, duties: list[Obligation], *, error: bool) -> Decision | None:
        winner: BoundRule | None = None
        for rule in tier.allowances:
            if (winner is None or rule.obligations) and self._truth(rule) is True:
                winner = winner or rule
                duties.extend(rule.obligations)
        return self._by_rule("allow", winner, tuple(duties), error=error) if winner else None

    def _by_rule(self, effect: Any, rule: BoundRule, obligations: tuple[Obligation, ...], *, error: bool) -> Decision:
        revision = self._bundle.revision if self._bundle else 0
        return Decision(
            effect, rule.rule.rule_name, rule.rule.reason, revision, rule.policy_id, obligations, error=error
        )

    def _by_matrix(self, duties: list[Obligation], *, error: bool) -> Decision:
        bundle, request = self._bundle, self._request
        revision = bundle.revision if bundle else 0
        granted = bundle.granted_by(self._roles, request.action) if bundle else None
        if granted:
            policy_id, role = granted
            return Decision("allow", MATRIX_RULE, f"role:{role}", revision, policy_id, tuple(duties), error=error)
        by_role = GRANTS[request.action]
        best = max([(self._strength(role), role) for role in self._roles if role in by_role], default=(_NOT, ""))
        if best[0] == _NOT:
            return Decision("deny", DEFAULT_RULE, "no_rule_allows", revision, error=error)
        if best[0] == _MASKED:
            duties.append({"mask": list(MASKED_FIELDS)})
        reason, own_only = f"role:{best[1]}", best[0] == _DEPENDS
        return Decision("allow", MATRIX_RULE, reason, revision, None, tuple(duties), error=error, own_only=own_only)

    def _strength(self, role: str) -> int:
        """How strongly a role's grant carries this request: whole, masked, only once the row is known, not at all."""
        grant = GRANTS[self._request.action][role]
        resource = self._request.resource
        reaches = holds(grant, self._request.principal.id, resource.attr)
        if reaches:
            return _MASKED if grant == "masked" else _WHOLE
        return _DEPENDS if reaches is None and not resource.id else _NOT

    def _applies(self, rule: BoundRule) -> bool:
        if rule.assignees is None:
            return True
        if self._keys is None:
            principal = self._request.principal
            teams = principal.teams | {principal.team} if principal.team else principal.teams
            self._keys = frozenset((Assignee("user", principal.id), *(Assignee("team", team) for team in teams)))
        return not rule.assignees.isdisjoint(self._keys)

    def _truth(self, rule: BoundRule) -> bool | str:
        if not self._applies(rule):
            return False
        condition = rule.rule.condition
        if condition is None:
            return True
        if self._bound is None:
            try:
                self._bound = condition.expression.hold(self._values())
            except (ExpressionError, RecursionError) as error:
                return str(error)
        return condition.expression.truth(self._bound)

    def _values(self) -> dict[str, Any]:
        spoken = self._lane.spoken if self._lane else {}
        return {root: _VALUES[root](self._request, members) for root, members in spoken.items()}

    def clauses(self) -> Iterator[Clause]:
        """The truth of each clause of each rule that is for this principal, and what the matrix says."""
        for rule in self._lane.rules() if self._lane else ():
            if self._applies(rule):
                yield from self._clauses_of(rule)
        for role in sorted(self._roles & GRANTS[self._request.action].keys()):
            text = f"{role} holds {self._request.action}: {GRANTS[self._request.action][role]}"
            yield Clause(None, MATRIX_RULE, "allow", text, self._strength(role) != _NOT)

    def _clauses_of(self, rule: BoundRule) -> Iterator[Clause]:
        condition, name, effect = rule.rule.condition, rule.rule.rule_name, rule.effect
        self._truth(rule)
        for leaf in condition.leaves() if condition else ():
            if self._bound is None:
                yield Clause(rule.policy_id, name, effect, leaf.text, None, str(self._truth(rule)))
                continue
            truth = leaf.expression.truth(self._bound)
            known = truth if isinstance(truth, bool) else None
            yield Clause(rule.policy_id, name, effect, leaf.text, known, "" if isinstance(truth, bool) else truth)
        if condition is None:
            yield Clause(rule.policy_id, name, effect, "always", truth=True)


def _gate(rule: BoundRule) -> str:
    return f"{rule.policy_id}/{rule.rule.rule_name}"


_NOT, _DEPENDS, _MASKED, _WHOLE = range(4)


def _principal(request: DecisionRequest, members: tuple[str, ...]) -> dict[str, Any]:
    return {name: plain(getattr(request.principal, name)) for name in members}


def _resource(request: DecisionRequest, members: tuple[str, ...]) -> dict[str, Any]:
    return {name: plain(getattr(request.resource, name)) for name in members}


def _run(request: DecisionRequest, members: tuple[str, ...]) -> dict[str, Any]:
    known = {name: getattr(request.run, name) for name in members} if request.run else {}
    return {name: plain(value) for name, value in known.items() if value is not None}


_VALUES: Final[Mapping[str, Callable[[DecisionRequest, tuple[str, ...]], Any]]] = {
    "principal": _principal,
    "resource": _resource,
    "run": _run,
    "action": lambda request, _: request.action,
    "request": lambda request, _: plain(request.request),
    "now": lambda request, _: request.now,
}
