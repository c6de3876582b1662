"""The system role matrix: which role may do what, compiled in, so that an organization without policies works."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

Answer = Literal["yes", "own", "no"]
"""`own` says that it depends on the row: whose it is, or where it stands."""

Grant = Literal["yes", "masked", "own", "lead", "named", "sandbox"]
"""How one role holds one permission; all but `yes` and `masked` depend on the row."""

ORGANIZATION_ROLES: Final = ("org_owner", "org_admin", "developer", "operator", "viewer")
PLATFORM_ROLES: Final = ("platform_admin", "platform_operator", "platform_auditor")
ROLES: Final = frozenset(ORGANIZATION_ROLES + PLATFORM_ROLES)

MASKED_FIELDS: Final = ("input", "output")
"""What a role that sees a row only masked does not get to see of it."""

_CRUD: Final = "create read update delete"

_VERBS: Final[Mapping[str, str]] = {
    "organization": f"{_CRUD} suspend resume restore",
    "subscription": "read update cancel",
    "billing": "read update",
    "usage": "read export",
    "budget": _CRUD,
    "user": f"{_CRUD} invite activate suspend restore",
    "team": f"{_CRUD} restore",
    "sso": f"{_CRUD} test",
    "scim": _CRUD,
    "api_key": f"{_CRUD} rotate revoke",
    "policy": f"{_CRUD} restore assign simulate",
    "approval": "read decide",
    "workspace": f"{_CRUD} restore update_limits",
    "gateway": f"{_CRUD} restore operate",
    "deployment": f"{_CRUD} activate rollback drain",
    "connector": f"{_CRUD} query test disable enable",
    "agent": f"{_CRUD} restore execute promote",
    "orchestration": f"{_CRUD} restore execute promote",
    "run": "create read cancel fork resume retry signal",
    "step": "read retry decide",
    "schedule": f"{_CRUD} pause resume",
    "kill_switch": "read engage release",
    "erasure": "create read cancel",
    "legal_hold": "create read release",
    "model_credential": f"{_CRUD} rotate use",
    "model_price": _CRUD,
    "allowed_host": "create read delete",
    "audit": "read export verify",
    "decision": "read export",
    "compliance": "create read",
    "webhook": f"{_CRUD} test redeliver",
    "notification": "read update delete",
    "platform": "read update coverage replay discard engage release rotate rebuild",
}

_NOBODY: Final = "-"

# One row per resource, one cell per organization role, in the order of ORGANIZATION_ROLES. A cell lists verbs, or says
# `all`; `verb:grant` narrows it. `run:create` opens the door only: who may start a run is decided by `execute` of its
# agent or orchestration. Whoever may engage or release a kill switch also sees it.
_CELLS: Final[Mapping[str, tuple[str, str, str, str, str]]] = {
    "organization": ("read update delete", "read update", "read", "read", "read"),
    "subscription": ("all", "read", _NOBODY, _NOBODY, _NOBODY),
    "billing": ("all", "read", _NOBODY, _NOBODY, _NOBODY),
    "usage": ("all", "all", "read:own", "read", "read:own"),
    "budget": ("all", "all", "read:own", "read", "read:own"),
    "user": ("all", "all", "read", "read", "read"),
    "team": ("all", "all", "read update:lead", "read", "read"),
    "sso": ("all", "all", _NOBODY, _NOBODY, _NOBODY),
    "scim": ("all", "all", _NOBODY, _NOBODY, _NOBODY),
    "api_key": ("all", "all", "all:own", "read:own", _NOBODY),
    "policy": ("all", "all", "read simulate", "read simulate", "read"),
    "approval": ("all", "all", "read:own decide:named", "read decide:named", "read:own"),
    "workspace": ("all", "all", "read", "read update_limits", "read"),
    "gateway": ("all", "all", "read", "read operate", "read"),
    "deployment": ("all", "all", "read create activate:sandbox", "read activate rollback", "read"),
    "connector": ("all", "all", "read query:own create:sandbox", "read test disable", "read"),
    "agent": ("all", "all", "create read update:own execute", "read execute", "read"),
    "orchestration": ("all", "all", "create read update:own execute", "read execute", "read"),
    "run": ("all", "all", "create read:own cancel:own fork:own signal:own", "all", "read:masked"),
    "step": ("all", "all", "read:own", "all", "read:masked"),
    "schedule": ("all", "all", "all:own", "read pause", "read:masked"),
    "kill_switch": ("all", "all", _NOBODY, "read engage", "read"),
    "erasure": ("all", "all", _NOBODY, _NOBODY, _NOBODY),
    "legal_hold": ("all", "all", _NOBODY, _NOBODY, _NOBODY),
    "model_credential": ("all", "all", "use", _NOBODY, _NOBODY),
    "model_price": ("all", "all", "read", "read", "read"),
    "allowed_host": ("all", "all", "read", "read", "read"),
    "audit": ("all", "all", "read:own", "read", _NOBODY),
    "decision": ("all", "all", "read:own", "read", _NOBODY),
    "compliance": ("all", "all", _NOBODY, "read", _NOBODY),
    "webhook": ("all", "all", "read", "read redeliver", _NOBODY),
    "notification": ("all:own", "all:own", "all:own", "all:own", "all:own"),
}

_PLATFORM_CELLS: Final[Mapping[str, tuple[str, str, str]]] = {
    "organization": ("all", _NOBODY, _NOBODY),
    "platform": ("all", "read replay engage", "read coverage"),
}


def _grants_of(resource: str, cell: str) -> Iterable[tuple[str, Grant]]:
    for word in () if cell == _NOBODY else cell.split():
        verb, _, grant = word.partition(":")
        for each in _VERBS[resource].split() if verb == "all" else (verb,):
            yield f"{resource}:{each}", grant or "yes"  # type: ignore[misc]  # the cells above are the only source


def _compile() -> dict[str, Mapping[str, Grant]]:
    grants: dict[str, dict[str, Grant]] = {
        f"{noun}:{verb}": {} for noun, verbs in _VERBS.items() for verb in verbs.split()
    }
    for roles, cells in ((ORGANIZATION_ROLES, _CELLS), (PLATFORM_ROLES, _PLATFORM_CELLS)):
        for resource, row in cells.items():
            for role, cell in zip(roles, row, strict=True):
                for permission, grant in _grants_of(resource, cell):
                    grants[permission][role] = grant
    return {permission: MappingProxyType(by_role) for permission, by_role in grants.items()}


GRANTS: Final[Mapping[str, Mapping[str, Grant]]] = MappingProxyType(_compile())
"""permission -> role -> how that role holds it."""

PERMISSIONS: Final = frozenset(GRANTS)
RESOURCES: Final = frozenset(_VERBS)

RESERVED: Final = frozenset(
    permission for permission, by_role in GRANTS.items() if not (by_role.keys() & set(ORGANIZATION_ROLES[1:]))
)
"""What only org_owner or the platform's roles hold: no policy may allow it and no custom role may be granted it."""


def allowed(roles: Iterable[str], permission: str) -> Answer:
    """Whether somebody with these roles may do it: to everything, only to certain rows, or not at all."""
    by_role = GRANTS.get(permission)
    if by_role is None:
        return "no"
    answer: Answer = "no"
    for role in roles:
        grant = by_role.get(role)
        if grant in ("yes", "masked"):
            return "yes"
        if grant is not None:
            answer = "own"
    return answer


def masked_fields(roles: Iterable[str], permission: str) -> tuple[str, ...]:
    """The fields to hide from somebody whose roles show such rows only masked."""
    by_role = GRANTS.get(permission, {})
    held = {by_role[role] for role in roles if role in by_role}
    return MASKED_FIELDS if held == {"masked"} else ()


def expand(pattern: str) -> frozenset[str]:
    """The permissions that `agent:execute` or `agent:*` names; empty when there is none."""
    noun, _, verb = pattern.partition(":")
    if verb == "*":
        return frozenset(f"{noun}:{each}" for each in _VERBS.get(noun, "").split())
    return frozenset((pattern,)) & PERMISSIONS


_OWNERS: Final[Mapping[str, tuple[str, ...]]] = {
    "own": ("owner_id", "created_by"),
    "lead": ("lead_ids",),
    "named": ("approver_ids",),
}
_SANDBOXES: Final = ("development", "sandbox")


def holds(grant: Grant, principal_id: str, attr: Mapping[str, Any]) -> bool | None:
    """Whether a grant that may depend on the row reaches this one; None when the row's attributes do not say."""
    if grant in ("yes", "masked"):
        return True
    if grant == "sandbox":
        place = attr.get("environment_type")
        return None if place is None else place in _SANDBOXES
    named = [attr[key] for key in _OWNERS[grant] if attr.get(key) is not None]
    return any(_names(who, principal_id) for who in named) if named else None


def _names(who: object, principal_id: str) -> bool:
    if isinstance(who, (list, tuple, set, frozenset)):
        return any(str(each) == principal_id for each in who)
    return str(who) == principal_id
