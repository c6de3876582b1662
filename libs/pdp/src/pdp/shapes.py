"""The keys of `rules_yaml` and the kinds of their values; what they mean together is checked in `pdp.document`."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pdp.marked import Marked, Path
from pdp.problems import Problem

MAX_RULES: Final = 200
MAX_ITEMS: Final = 100

Kebab = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*$", max_length=64)]
Code = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
Approver = Annotated[str, StringConstraints(pattern=r"^(role:[a-z_]{1,64}|user:[0-9a-f-]{36})$")]
Span = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}[mhd]$")]
MAX_SPAN_SECONDS: Final = 30 * 86_400.0
"""No approval waits longer."""
_UNITS: Final = {"m": 60.0, "h": 3_600.0, "d": 86_400.0}
Short = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Cel = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Setting = Literal[
    "run.max_cost_usd", "run.max_tokens", "run.max_tool_calls", "run.max_steps", "run.max_depth", "run.timeout_seconds"
]
WITHDRAWN: Final[frozenset[Setting]] = frozenset({"run.max_tool_calls"})
"""What documents could set once and nobody obeyed: stored ones may go on saying it."""
Amount = Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0, allow_inf_nan=False)]


def seconds_of(span: str) -> float:
    """The seconds of `30m`, `4h` or `7d`."""
    return int(span[:-1]) * _UNITS[span[-1]]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ObligationShape(_Shape):
    """What the one who acts on an allow must also do: keep to a limit, or tell somebody."""

    set: dict[Setting, Amount] | None = None
    notify: Code | None = None


class ApproversShape(_Shape):
    """Who may approve: any one of these."""

    any_of: list[Approver] = Field(min_length=1, max_length=50)


class ApprovalShape(_Shape):
    """How a gate is opened: by one person who is not the one who asks."""

    approvers: ApproversShape | None = None
    required: Literal[1] = 1
    separation_of_duties: Literal[True] = True
    expires_in: Span | None = None
    on_timeout: Literal["deny"] = "deny"


class ApprovalsShape(_Shape):
    """What holds for all approvals of the organization: how long one waits at most, and where nothing else is said."""

    expires_in: Span


class RuleShape(_Shape):
    """One rule, as written."""

    rule_name: Kebab
    effect: Literal["allow", "deny", "obligate", "require_approval"]
    actions: list[str] = Field(min_length=1, max_length=MAX_ITEMS)
    roles: list[Name] | None = Field(None, min_length=1, max_length=MAX_ITEMS)
    when: Any = None
    approval: ApprovalShape | None = None
    obligations: list[ObligationShape] = Field(default=[], max_length=20)
    reason: Code = ""


class RoleShape(_Shape):
    """A role of the organization's own."""

    inherits: list[Name] = Field(default=[], max_length=MAX_ITEMS)
    grants: list[str] = Field(default=[], max_length=MAX_ITEMS)


class PrincipalShape(_Shape):
    """Who asks, in a document's test."""

    id: str = "somebody"
    kind: Literal["user", "api_key", "system"] = "user"
    roles: list[str] = []
    scopes: list[str] = []
    teams: list[str] = []
    team: str | None = None
    mfa: bool = False
    auth_age_s: int = 0
    chain: list[str] = []


class ResourceShape(_Shape):
    """What it is asked about, in a document's test."""

    kind: str | None = None
    id: str = "something"
    attr: dict[str, Any] = {}


class RunShape(_Shape):
    """The run it is asked for, in a document's test."""

    estimated_cost_usd: float | int | None = None
    depth: int | None = None
    trigger: str | None = None
    model: str | None = None


class NetworkShape(_Shape):
    """Where the request came from, in a document's test."""

    ip: str


class GivenShape(_Shape):
    """The request that a document's test makes."""

    action: str
    principal: PrincipalShape = PrincipalShape()
    resource: ResourceShape = ResourceShape()
    run: RunShape | None = None
    request: NetworkShape | None = None
    now: Short | None = None
    organization_status: Literal["active", "suspended", "deleted"] = "active"


class ExpectShape(_Shape):
    """The decision that a document's test expects; what is left out is not compared."""

    decision: Literal["allow", "deny", "require_approval"]
    rule_name: str | None = None
    obligations: list[ObligationShape] | None = None


class TrialShape(_Shape):
    """One test inside a document."""

    name: Short
    given: GivenShape
    expect: ExpectShape


class DocumentShape(_Shape):
    """A whole policy, as written."""

    apiVersion: Literal["policy/v1"]  # noqa: N815  (the key of the file)
    type: Literal["rbac", "abac"]
    variables: dict[Name, Cel] = {}
    roles: dict[Name, RoleShape] = {}
    approvals: ApprovalsShape | None = None
    rules: list[RuleShape] = Field(default=[], max_length=MAX_RULES)
    tests: list[TrialShape] = Field(default=[], max_length=MAX_ITEMS)


_CODES: Final = {"extra_forbidden": "unknown_key", "missing": "missing_key"}
_MESSAGES: Final = {"extra_forbidden": "There is no key {0!r} here.", "missing": "The key {0!r} is missing."}


def problems_of(error: ValidationError, marked: Marked) -> list[Problem]:
    """What pydantic found, as problems at their places in the text."""
    found = []
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        path = _known(each["loc"], marked)
        kind = each["type"]
        name = each["loc"][-1] if each["loc"] else ""
        message = _MESSAGES[kind].format(name) if kind in _MESSAGES else f"{each['msg']}."
        at_key = kind == "extra_forbidden" or name == "[key]"
        found.append(marked.problem(path, message, _CODES.get(kind, "invalid_value"), at_key=at_key))
    return found


def _known(location: tuple[str | int, ...], marked: Marked) -> Path:
    """The path without the words pydantic adds for unions and keys."""
    path: Path = ()
    for part in location:
        if (*path, part) in marked.values:
            path = (*path, part)
    return path
