"""Who is asking: the first thing every unit of work knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self
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

    def to_json(self) -> dict[str, Any]:
        """Who it is and what it may, as a row keeps it."""
        user_id = str(self.user_id) if self.user_id else None
        return {
            "kind": self.kind,
            "id": self.id,
            "user_id": user_id,
            "roles": sorted(self.roles),
            "scopes": sorted(self.scopes),
        }

    @classmethod
    def from_json(
        cls, organization_id: UUID, kept: Mapping[str, Any], *, traceparent: str = "", correlation_id: str = ""
    ) -> Self:  # fmt: skip
        """The caller that a row has kept."""
        return cls(
            organization_id,
            kept["kind"],
            kept["id"],
            user_id=UUID(kept["user_id"]) if kept["user_id"] else None,
            roles=frozenset(kept["roles"]),
            scopes=frozenset(kept["scopes"]),
            traceparent=traceparent,
            correlation_id=correlation_id,
        )

    @classmethod
    def system(cls, organization_id: UUID, what: str, *, traceparent: str = "", causation_id: str = "") -> Self:
        """The service itself, acting in an organization; `what` says which part of it."""
        return cls(organization_id, "system", what, traceparent=traceparent, causation_id=causation_id)

    def within(self, organization_id: UUID) -> Caller:
        """The same caller, acting in another organization: only for creating one."""
        return replace(self, organization_id=organization_id)
