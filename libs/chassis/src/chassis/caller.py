"""Who is asking: the first thing every unit of work knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self
from uuid import UUID

NOBODY = UUID(int=0)
"""No organization at all: for what a service does on its own account."""

CallerKind = Literal["user", "api_key", "system"]


@dataclass(frozen=True, slots=True)
class Caller:
    """A user, an API key or the system, acting inside exactly one organization."""

    organization_id: UUID
    kind: CallerKind
    id: str
    """The user's or key's id; of the system: the service and what it does (`execution.reaper`)."""
    user_id: UUID | None = None
    """Who owns what the caller makes: the user itself, or the owner of the key."""
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    """Permissions the caller is narrowed to; empty means all of its roles."""
    traceparent: str = ""
    correlation_id: str = ""
    causation_id: str = ""

    @property
    def owner_id(self) -> str:
        """What is compared with `created_by` where a right reaches only one's own: the user, else `api_key:<id>`."""
        return str(self.user_id) if self.user_id else f"{self.kind}:{self.id}"

    @classmethod
    def system(cls, organization_id: UUID, what: str, *, traceparent: str = "", causation_id: str = "") -> Self:
        """The service itself, acting in an organization; `what` says which part of it."""
        return cls(organization_id, "system", what, traceparent=traceparent, causation_id=causation_id)

    def within(self, organization_id: UUID) -> Caller:
        """The same caller, acting in another organization: only for creating one."""
        return replace(self, organization_id=organization_id)
