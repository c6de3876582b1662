"""A policy's text, `rules_yaml`, read and checked as a whole: what holds here can be put into a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Literal

from pydantic import ValidationError

from pdp.cel import ExpressionError
from pdp.conditions import Condition, read_condition
from pdp.marked import Marked, Path, read_yaml
from pdp.matrix import PLATFORM_ROLES, RESERVED, ROLES, expand
from pdp.problems import DocumentError, Problem
from pdp.request import ApprovalRule
from pdp.shapes import (
    MAX_SPAN_SECONDS,
    WITHDRAWN,
    ApprovalShape,
    ApprovalsShape,
    DocumentShape,
    GivenShape,
    ObligationShape,
    RuleShape,
    TrialShape,
    problems_of,
    seconds_of,
)
from pdp.vocabulary import compile_condition, inline

__all__ = ["CustomRole", "Document", "DocumentError", "Problem", "Rule", "Trial", "parse_document"]

Obligation = Mapping[str, Any]
Effect = Literal["allow", "deny", "obligate", "require_approval"]

_EFFECTS: Final[Mapping[str, frozenset[str]]] = {
    "rbac": frozenset(("allow", "deny")),
    "abac": frozenset(("allow", "deny", "obligate", "require_approval")),
}
_NOT_INHERITED: Final = frozenset(("org_owner", *PLATFORM_ROLES))
_GATED: Final = frozenset(("agent:execute", "orchestration:execute"))
"""What can wait for somebody's approval."""
_LATER_APPROVALS: Final[Mapping[str, Any]] = {
    "required": 1, "separation_of_duties": True, "on_timeout": "deny", "grant": None, "escalate": None,
}  # fmt: skip
"""What an approval cannot say yet, but for what holds anyway."""
_CACHED: Final = 2_048


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what it says about which permissions, to whom, and when."""

    rule_name: str
    effect: Effect
    permissions: frozenset[str]
    roles: frozenset[str] | None
    """None: whoever asks."""
    condition: Condition | None
    """None: always."""
    obligations: tuple[Obligation, ...]
    reason: str
    approval: ApprovalRule | None = None
    """Of a gate: who opens it."""


@dataclass(frozen=True, slots=True)
class CustomRole:
    """A role of the organization's own: system roles it stands for, and permissions it adds."""

    name: str
    implied: frozenset[str]
    grants: frozenset[str]


@dataclass(frozen=True, slots=True)
class Trial:
    """One test inside a document."""

    name: str
    given: GivenShape
    decision: Literal["allow", "deny", "require_approval"]
    rule_name: str | None
    obligations: tuple[Obligation, ...] | None


@dataclass(frozen=True, slots=True)
class Document:
    """A policy that holds: every expression compiled, every permission and role known."""

    text: str
    type: Literal["rbac", "abac"]
    rules: tuple[Rule, ...]
    roles: tuple[CustomRole, ...]
    trials: tuple[Trial, ...]
    approval_seconds: float | None = None
    """How long an approval of the organization waits at most, whichever rule asks for it; None: it does not say."""
    withdrawn: tuple[Problem, ...] = ()
    """What it says that is read where it is stored, and is not to be saved anew."""

    @property
    def permissions(self) -> frozenset[str]:
        """Every permission that a rule or a role of this document speaks of."""
        return frozenset().union(*(rule.permissions for rule in self.rules), *(role.grants for role in self.roles))


def parse_document(text: str, *, custom_roles: Iterable[str] | None = None) -> Document:
    """Read and check a policy; DocumentError lists everything that is wrong, each with its line and column.

    With `custom_roles` given, a rule may name only those, the document's own and the system's roles.
    """
    document, named = _parse(text)
    if custom_roles is not None:
        known = ROLES | {role.name for role in document.roles} | frozenset(custom_roles)
        unknown = [problem for role, problem in named if role not in known]
        if unknown:
            raise DocumentError(unknown)
    return document


@lru_cache(maxsize=_CACHED)
def _parse(text: str) -> tuple[Document, tuple[tuple[str, Problem], ...]]:
    marked = read_yaml(text)
    if not isinstance(marked.value, dict):
        raise DocumentError([marked.problem((), "A policy is a mapping of keys.", "invalid_value")])
    later = _not_yet(marked)
    if later:
        raise DocumentError(later)
    try:
        shape = DocumentShape.model_validate(marked.value)
    except ValidationError as error:
        raise DocumentError(problems_of(error, marked)) from None
    reader = _Reader(shape, marked)
    document = reader.read(text)
    if reader.problems:
        raise DocumentError(reader.problems)
    return document, tuple(reader.named)


def _not_yet(marked: Marked) -> list[Problem]:
    """The parts of the language that a later version will take."""
    paths: list[Path] = []
    if marked.value.get("type") == "budget":
        paths.append(("type",))
    if "budgets" in marked.value:
        paths.append(("budgets",))
    rules = marked.value.get("rules")
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        approval = rule.get("approval") if isinstance(rule, dict) else None
        given = approval if isinstance(approval, dict) else {}
        paths += [
            ("rules", index, "approval", key) for key, here in _LATER_APPROVALS.items() if given.get(key, here) != here
        ]
    message = "Budgets, and approvals other than by one person who is not the one who asks, are not supported yet."
    return [marked.problem(path, message, "not_supported_yet", at_key=True) for path in paths]


def read_time(text: str) -> datetime | None:
    """The moment that the text names, with its zone; None when it names none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


class _Reader:
    """Turns the shape into a document; what is wrong gathers in `problems`."""

    def __init__(self, shape: DocumentShape, marked: Marked) -> None:
        self.problems: list[Problem] = []
        self.named: list[tuple[str, Problem]] = []
        self.withdrawn: list[Problem] = []
        self._shape, self._marked = shape, marked
        self._variables: dict[str, str] = {}

    def read(self, text: str) -> Document:
        shape = self._shape
        for name, expression in shape.variables.items():
            self._variable(name, expression)
        self._unique([rule.rule_name for rule in shape.rules], "rules", "rule_name")
        self._unique([trial.name for trial in shape.tests], "tests", "name")
        if shape.roles and shape.type != "rbac":
            self._wrong(("roles",), "Roles are defined in a policy of type rbac.", "invalid_value", at_key=True)
        rules = tuple(self._rule(index, rule) for index, rule in enumerate(shape.rules))
        return Document(
            text=text,
            type=shape.type,
            rules=rules,
            roles=tuple(self._role(name) for name in shape.roles),
            trials=tuple(self._trial(index, trial) for index, trial in enumerate(shape.tests)),
            approval_seconds=self._approvals(shape.approvals),
            withdrawn=tuple(self.withdrawn),
        )

    def _approvals(self, shape: ApprovalsShape | None) -> float | None:
        if shape is None:
            return None
        if self._shape.type != "abac":
            self._wrong(("approvals",), "Approvals are for a policy of type abac.", "invalid_value", at_key=True)
        return self._seconds(("approvals", "expires_in"), shape.expires_in)

    def _seconds(self, path: Path, span: str) -> float:
        seconds = seconds_of(span)
        if seconds > MAX_SPAN_SECONDS:
            self._wrong(path, "An approval waits for at most 30d.", "invalid_value")
        return seconds

    def _wrong(self, path: Path, message: str, code: str, *, at_key: bool = False) -> None:
        self.problems.append(self._marked.problem(path, message, code, at_key=at_key))

    def _unique(self, names: list[str], noun: str, key: str) -> None:
        for index, name in enumerate(names):
            if name in names[:index]:
                self._wrong((noun, index, key), f"The name {name!r} is here twice.", "duplicate_name")

    def _variable(self, name: str, text: str) -> None:
        path: Path = ("variables", name)
        try:
            compile_condition(text, self._variables, truth=False)
            self._variables[name] = inline(text, self._variables)
        except ExpressionError as error:
            place = (error.line, error.column)
            self.problems.append(self._marked.problem_in(path, place, error.message, "invalid_expression"))
            self._variables[name] = "dyn(true)"  # known, so that its uses are not wrong as well

    def _rule(self, index: int, rule: RuleShape) -> Rule:
        path: Path = ("rules", index)
        if rule.effect not in _EFFECTS[self._shape.type]:
            message = f"A policy of type {self._shape.type} cannot {rule.effect}."
            self._wrong((*path, "effect"), message, "effect_not_in_type")
        if rule.effect == "deny" and rule.obligations:
            self._wrong((*path, "obligations"), "A denial has no obligations.", "invalid_value", at_key=True)
        if rule.effect == "obligate" and not rule.obligations:
            self._wrong(path, "This rule obliges to nothing.", "missing_key")
        approval = self._approval(path, rule)
        for position, role in enumerate(rule.roles or ()):
            place: Path = (*path, "roles", position)
            self.named.append((role, self._marked.problem(place, f"There is no role {role!r}.", "unknown_role")))
        when = (*path, "when")
        condition = None
        if "when" in rule.model_fields_set:
            condition = read_condition(rule.when, when, self._marked, self._variables, self.problems)
        return Rule(
            rule_name=rule.rule_name,
            effect=rule.effect,
            permissions=self._permissions((*path, "actions"), rule.actions, granting=rule.effect == "allow"),
            roles=frozenset(rule.roles) if rule.roles else None,
            condition=condition,
            obligations=self._obligations((*path, "obligations"), rule.obligations),
            reason=rule.reason,
            approval=approval,
        )

    def _approval(self, path: Path, rule: RuleShape) -> ApprovalRule | None:
        if rule.effect != "require_approval":
            if rule.approval is not None:
                message = "Only a rule with the effect require_approval says who approves."
                self._wrong((*path, "approval"), message, "invalid_value", at_key=True)
            return None
        for index, pattern in enumerate(rule.actions):
            if not expand(pattern) <= _GATED:
                message = f"Only {' and '.join(sorted(_GATED))} can wait for an approval yet."
                self._wrong((*path, "actions", index), message, "not_supported_yet")
        shape = rule.approval or ApprovalShape()
        said = shape.expires_in
        seconds = None if said is None else self._seconds((*path, "approval", "expires_in"), said)
        named = shape.approvers.any_of if shape.approvers else ()
        return ApprovalRule(frozenset(named) or None, seconds)

    def _permissions(self, path: Path, patterns: list[str], *, granting: bool) -> frozenset[str]:
        found: set[str] = set()
        for index, pattern in enumerate(patterns):
            named = expand(pattern)
            if not named:
                self._wrong((*path, index), f"There is no permission {pattern!r}.", "unknown_permission")
            if granting and named & RESERVED:
                listed = ", ".join(sorted(named & RESERVED))
                self._wrong((*path, index), f"No policy may allow {listed}.", "reserved_permission")
            found |= named
        return frozenset(found)

    def _obligations(self, path: Path, shapes: list[ObligationShape]) -> tuple[Obligation, ...]:
        found = []
        for index, shape in enumerate(shapes):
            obligation = shape.model_dump(exclude_none=True)
            if len(obligation) != 1 or not all(obligation.values()):
                self._wrong((*path, index), "An obligation is one of set and notify.", "invalid_value")
            for name in sorted(WITHDRAWN.intersection(shape.set or ())):
                message = f"No rule can set {name} yet; the limits of an agent can."
                place = (*path, index, "set", name)
                self.withdrawn.append(self._marked.problem(place, message, "not_supported_yet", at_key=True))
            found.append(obligation)
        return tuple(found)

    def _role(self, name: str) -> CustomRole:
        path: Path = ("roles", name)
        if name in ROLES:
            self._wrong(path, f"{name!r} is a role of the system.", "duplicate_name", at_key=True)
        implied, grants = (
            {name},
            set(self._permissions((*path, "grants"), self._shape.roles[name].grants, granting=True)),
        )
        waiting, seen = [name], set[str]()
        while waiting:
            each = waiting.pop()
            seen.add(each)
            for index, parent in enumerate(self._shape.roles[each].inherits):
                place: Path = ("roles", each, "inherits", index)
                if parent in _NOT_INHERITED:
                    self._wrong(place, f"No role may inherit {parent!r}.", "reserved_role")
                elif parent == name:
                    self._wrong(place, f"{name!r} inherits itself.", "role_cycle")
                elif parent in self._shape.roles and parent not in seen:
                    waiting.append(parent)
                    grants |= frozenset().union(*map(expand, self._shape.roles[parent].grants))
                elif parent not in ROLES and parent not in seen:
                    self._wrong(place, f"There is no role {parent!r}.", "unknown_role")
                implied.add(parent)
        return CustomRole(name, frozenset(implied), frozenset(grants))

    def _trial(self, index: int, trial: TrialShape) -> Trial:
        path: Path = ("tests", index)
        if expand(trial.given.action) != {trial.given.action}:
            message = f"There is no permission {trial.given.action!r}."
            self._wrong((*path, "given", "action"), message, "unknown_permission")
        if trial.given.now is not None and read_time(trial.given.now) is None:
            self._wrong((*path, "given", "now"), "A time looks like 2026-11-22T09:00:00Z.", "invalid_value")
        expect = trial.expect
        obligations = None
        if expect.obligations is not None:
            obligations = self._obligations((*path, "expect", "obligations"), expect.obligations)
        return Trial(trial.name, trial.given, expect.decision, expect.rule_name, obligations)
