"""What agents and orchestrations share: the number of the next revision, and what an update changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semver import Version

from chassis.errors import ConflictError, InvalidError
from execution.domain.definitions import Definition
from execution.domain.versions import is_version, next_version
from execution.tables import Row

CURRENT = "current"


def next_semver(current: str, wanted: str | None) -> str:
    """The number of the revision after `current`: the wanted one if it is higher, else the next patch."""
    if wanted is None:
        return next_version(current)
    if not is_version(wanted):
        raise InvalidError(f"{wanted!r:.80} is no semantic version.", code="invalid_version")
    if Version.parse(wanted) <= Version.parse(current):
        raise ConflictError(f"The version must be above {current}.", code="version_not_higher")
    return wanted


def wanted_semver(definition: Definition[Any], current: str) -> str:
    """The number for an applied file: its own if that is higher than the current one, else the next patch."""
    return next_version(current, definition.metadata.version if definition.metadata else None)


def change_row(row: Row, values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Give a row these values; returns what that changed, `{field: [before, after]}`."""
    changes: dict[str, list[Any]] = {}
    for name, value in values.items():
        before = getattr(row, name)
        if before != value:
            setattr(row, name, value)
            changes[name] = [_plain(before), _plain(value)]
    return changes


def _plain(value: Any) -> Any:
    """As it stands in a fact: ids and times as text, long text by its start."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)[:200]
