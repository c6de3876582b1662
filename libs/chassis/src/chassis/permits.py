"""What the caller of one request may do: the answer of role matrix, key scopes and the organization's rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from chassis.errors import ForbiddenError, NotFoundError

Judge = Callable[[str, str, Mapping[str, Any]], object]
"""Asks the organization's rules about (resource kind, id, attributes); raises ForbiddenError."""


@dataclass
class Permit:
    """A permission that was granted, and how far it reaches."""

    permission: str
    own_only: bool
    """True when the caller's roles grant it for its own things only: rows with `created_by` of the caller."""
    owner_id: str
    masked: tuple[str, ...] = ()
    """Fields this caller may not be shown: a run's input and output, for a viewer."""
    judge: Judge | None = None
    """Set when the organization has rules for this permission."""
    judged: bool = field(default=False, init=False)

    @classmethod
    def system(cls) -> Self:
        """The service's own work: consumers and jobs are not asked."""
        return cls("system", own_only=False, owner_id="")

    @property
    def kind(self) -> str:
        """The noun of the permission: `run` of `run:cancel`."""
        return self.permission.partition(":")[0]

    def check(self, kind: str, row_id: str, attributes: Mapping[str, Any]) -> None:
        """May the caller do it to this row? NotFoundError where it reaches only its own, ForbiddenError by a rule.

        Rows of other kinds, read on the way, are not what the permission is about.
        """
        if kind != self.kind:
            return
        if self.own_only and attributes.get("created_by") != self.owner_id:
            raise NotFoundError(f"There is no {kind.replace('_', ' ')} with this id.")
        if self.judge is not None:
            self.judge(kind, row_id, attributes)
        self.judged = True

    def require_judged(self) -> None:
        """Fail closed: a route about one thing must have shown that thing to the organization's rules."""
        if self.judge is not None and not self.judged:
            raise ForbiddenError("The organization's rules could not be applied to this request.", code="not_judged")
