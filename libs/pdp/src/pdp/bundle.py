"""All enabled policies of one organization, compiled once and laid out for decisions; travels as canonical bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final, Literal, Self

from pdp.document import CustomRole, Document, Effect, Obligation, Rule, parse_document
from pdp.matrix import Answer, allowed
from pdp.problems import BundleError
from pdp.request import APPROVAL_SECONDS
from pdp.vocabulary import spoken_of

__all__ = ["Assignee", "Bundle", "BundleDocument", "BundleError"]

MAX_RULES_PER_ACTION: Final = 200
MATRIX_PRIORITY: Final = 0
"""Where the role matrix stands: a policy's priority is at least this."""
_NARROWED: Final = 10_000
"""How many (permission, roles) pairs are kept laid out."""
_FORMAT: Final = "remit-bundle/1"


@dataclass(frozen=True, slots=True, order=True)
class Assignee:
    """A team or a user that a policy is for."""

    type: Literal["team", "user"]
    id: str


@dataclass(frozen=True, slots=True)
class BundleDocument:
    """One enabled policy as it goes into a bundle."""

    policy_id: str
    name: str
    priority: int
    rules_yaml: str
    assignees: tuple[Assignee, ...] = ()
    """Empty: for everyone."""
    is_system: bool = False
    """Its denials are final: no allow of any priority comes before them."""


@dataclass(frozen=True, slots=True)
class BoundRule:
    """A rule inside a bundle: with its policy, and whom that is for."""

    rule: Rule
    policy_id: str
    assignees: frozenset[Assignee] | None

    @property
    def effect(self) -> Effect:
        """What the rule does when it matches."""
        return self.rule.effect

    @property
    def obligations(self) -> tuple[Obligation, ...]:
        """What an allow brings with it when the rule matches."""
        return self.rule.obligations


@dataclass(frozen=True, slots=True)
class Tier:
    """The rules of one priority about one permission, by effect."""

    priority: int
    denials: tuple[BoundRule, ...]
    allowances: tuple[BoundRule, ...]
    duties: tuple[BoundRule, ...]
    gates: tuple[BoundRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Lane:
    """Everything a bundle says about one permission, in the order of decision."""

    final_denials: tuple[BoundRule, ...]
    tiers: tuple[Tier, ...]
    """Highest priority first; after the last of them comes the role matrix."""
    spoken: Mapping[str, tuple[str, ...]]
    """The roots and members its conditions speak of: nothing else need be handed to them."""

    def for_roles(self, roles: frozenset[str]) -> Lane:
        """What is left of the lane for somebody with these roles."""
        tiers = [
            Tier(
                tier.priority,
                *(_for_roles(rules, roles) for rules in (tier.denials, tier.allowances, tier.duties, tier.gates)),
            )
            for tier in self.tiers
        ]
        full = tuple(tier for tier in tiers if tier.denials or tier.allowances or tier.duties or tier.gates)
        return Lane(_for_roles(self.final_denials, roles), full, self.spoken)

    def rules(self) -> Iterable[BoundRule]:
        """Every rule of the lane, in the order of decision."""
        yield from self.final_denials
        for tier in self.tiers:
            yield from (*tier.denials, *tier.gates, *tier.duties, *tier.allowances)


def _for_roles(rules: tuple[BoundRule, ...], roles: frozenset[str]) -> tuple[BoundRule, ...]:
    return tuple(rule for rule in rules if rule.rule.roles is None or not rule.rule.roles.isdisjoint(roles))


class Bundle:
    """One organization's rules at one revision, ready to decide with. Immutable to its users."""

    def __init__(self, organization_id: str, revision: int, documents: Sequence[BundleDocument]) -> None:
        self.organization_id = organization_id
        self.revision = revision
        self.documents = tuple(sorted(documents, key=lambda each: (-each.priority, each.policy_id)))
        parsed = [(each, parse_document(each.rules_yaml)) for each in self.documents]
        self._roles = _custom_roles(parsed)
        self._lanes = _lanes(parsed)
        spans = [document.approval_seconds for _, document in parsed if document.approval_seconds is not None]
        self.longest_approval_seconds = min(spans, default=None)
        """What the enabled documents say an approval waits at most; None: they do not say."""
        self._narrowed: dict[tuple[str, frozenset[str]], Lane] = {}

    @classmethod
    def compile(cls, organization_id: str, revision: int, documents: Sequence[BundleDocument]) -> Self:
        """Compile an organization's enabled policies; DocumentError or BundleError when they cannot be used."""
        ids = [document.policy_id for document in documents]
        if len(set(ids)) < len(ids):
            raise BundleError("duplicate_policy", "A policy is in the bundle twice.")
        low = [document.name for document in documents if document.priority < MATRIX_PRIORITY]
        if low:
            raise BundleError("priority_too_low", f"The priority of {low[0]!r} is below {MATRIX_PRIORITY}.")
        return cls(organization_id, revision, documents)

    @classmethod
    def load(cls, source: bytes | str, sha256: str | None = None) -> Self:
        """Compile a bundle from its source; BundleError when it is not one, or not the one with this hash."""
        text = source.encode() if isinstance(source, str) else bytes(source)
        if sha256 is not None and hashlib.sha256(text).hexdigest() != sha256:
            raise BundleError("hash_mismatch", "The bundle's source is not what was published.")
        try:
            content = json.loads(text)
            if content["format"] != _FORMAT:
                raise BundleError("unknown_format", f"This is no {_FORMAT}.")
            documents = [_document(each) for each in content["documents"]]
            return cls.compile(content["organization_id"], content["revision"], documents)
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise BundleError("unknown_format", f"This is no {_FORMAT}: {error}.") from None

    def source(self) -> bytes:
        """The canonical bytes: equal policies at one revision give equal bytes."""
        content = {
            "format": _FORMAT,
            "organization_id": self.organization_id,
            "revision": self.revision,
            "documents": [_plain(document) for document in self.documents],
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @cached_property
    def sha256(self) -> str:
        """The hash of the source, in hex."""
        return hashlib.sha256(self.source()).hexdigest()

    @property
    def custom_roles(self) -> frozenset[str]:
        """The names of the organization's own roles."""
        return frozenset(self._roles)

    def has_rules(self, kind: str, permission: str) -> bool:
        """Whether a policy or a custom role says anything about this permission of this kind of resource."""
        if permission.partition(":")[0] != kind:
            return False
        return permission in self._lanes or any(permission in role.grants for role in self._roles.values())

    def lane(self, permission: str, roles: frozenset[str]) -> Lane | None:
        """The rules about a permission that concern somebody with these roles (see `roles_of`); None without any."""
        lane = self._lanes.get(permission)
        if lane is None:
            return None
        narrowed = self._narrowed.get((permission, roles))
        if narrowed is None:
            if len(self._narrowed) >= _NARROWED:
                self._narrowed.clear()
            narrowed = self._narrowed[permission, roles] = lane.for_roles(roles)
        return narrowed

    def roles_of(self, roles: frozenset[str]) -> frozenset[str]:
        """The roles, with those that custom roles stand for."""
        if not self._roles or self._roles.keys().isdisjoint(roles):
            return roles
        return roles.union(*(self._roles[role].implied for role in roles if role in self._roles))

    def granted_by(self, roles: frozenset[str], permission: str) -> tuple[str, str] | None:
        """The (policy id, role) that grants it beyond the matrix: the first such custom role by name."""
        for name in sorted(self._roles.keys() & roles):
            if permission in self._roles[name].grants:
                return self._roles[name].policy_id, name
        return None

    def approval_seconds(self, said: float | None = None) -> float:
        """How long an approval waits for which this much was said: at most as long as the organization's own say."""
        own = self.longest_approval_seconds
        if said is None:
            return APPROVAL_SECONDS if own is None else own
        return said if own is None else min(said, own)

    def allowed(self, roles: Iterable[str], permission: str) -> Answer:
        """`pdp.matrix.allowed`, with the organization's own roles; rules are not asked."""
        held = frozenset(roles)
        return "yes" if self.granted_by(held, permission) else allowed(self.roles_of(held), permission)


@dataclass(frozen=True, slots=True)
class _BoundRole:
    policy_id: str
    implied: frozenset[str]
    grants: frozenset[str]


def _custom_roles(parsed: Sequence[tuple[BundleDocument, Document]]) -> Mapping[str, _BoundRole]:
    found: dict[str, _BoundRole] = {}
    for source, document in parsed:
        for role in document.roles:
            if role.name in found:
                raise BundleError("duplicate_role", f"Two policies define the role {role.name!r}.")
            found[role.name] = _bound(role, source.policy_id)
    return found


def _bound(role: CustomRole, policy_id: str) -> _BoundRole:
    return _BoundRole(policy_id, role.implied, role.grants)


def _lanes(parsed: Sequence[tuple[BundleDocument, Document]]) -> Mapping[str, Lane]:
    by_permission: dict[str, list[tuple[BundleDocument, BoundRule]]] = {}
    for source, document in parsed:
        assignees = frozenset(source.assignees) or None
        for rule in document.rules:
            bound = BoundRule(rule, source.policy_id, assignees)
            for permission in rule.permissions:
                by_permission.setdefault(permission, []).append((source, bound))
    return {permission: _lane(permission, rules) for permission, rules in by_permission.items()}


def _lane(permission: str, rules: Sequence[tuple[BundleDocument, BoundRule]]) -> Lane:
    if len(rules) > MAX_RULES_PER_ACTION:
        message = f"{len(rules)} rules are about {permission}; there may be {MAX_RULES_PER_ACTION}."
        raise BundleError("too_many_rules", message)
    final = tuple(rule for source, rule in rules if source.is_system and rule.effect == "deny")
    priorities = sorted({source.priority for source, _ in rules} | {MATRIX_PRIORITY}, reverse=True)
    spoken = spoken_of(rule.rule.condition.expression.text for _, rule in rules if rule.rule.condition)
    return Lane(final, tuple(_tier(each, rules) for each in priorities), spoken)


def _tier(priority: int, rules: Sequence[tuple[BundleDocument, BoundRule]]) -> Tier:
    here = [(source.is_system, rule) for source, rule in rules if source.priority == priority]
    return Tier(
        priority,
        denials=tuple(rule for is_system, rule in here if rule.effect == "deny" and not is_system),
        allowances=tuple(rule for _, rule in here if rule.effect == "allow"),
        duties=tuple(rule for _, rule in here if rule.effect == "obligate"),
        gates=tuple(rule for _, rule in here if rule.effect == "require_approval"),
    )


def _plain(document: BundleDocument) -> dict[str, Any]:
    return asdict(document) | {"assignees": [asdict(each) for each in sorted(document.assignees)]}


def _document(content: Mapping[str, Any]) -> BundleDocument:
    return BundleDocument(
        policy_id=content["policy_id"],
        name=content["name"],
        priority=content["priority"],
        rules_yaml=content["rules_yaml"],
        assignees=tuple(Assignee(each["type"], each["id"]) for each in content["assignees"]),
        is_system=content["is_system"],
    )
