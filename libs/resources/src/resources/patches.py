"""Merge patches (RFC 7396): what is left out stays, what is null goes, the rest is as given."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import inspect

from chassis.db import Row
from chassis.uow import UnitOfWork
from resources.bodies import In

MAX_TOLD_CHARACTERS = 200

Changes = dict[str, tuple[Any, Any]]
"""Each changed column with its value before and after."""


class PatchIn(In):
    """The body of an update: declare each field with any default; only those the caller wrote count.

    A field whose type allows None can be emptied; null for any other is refused by its type.
    """

    def given(self) -> dict[str, Any]:
        """The fields the caller wrote, null among them."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def merge_patch(document: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON document with a patch applied: null removes a key, an object goes into the object that is there."""
    merged = dict(document)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            there = merged.get(key)
            merged[key] = merge_patch(there if isinstance(there, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def apply_patch(uow: UnitOfWork, row: Row, values: Mapping[str, Any]) -> Changes:
    """Set columns to what is given and tell what that changed; where anything did, the row is at its next version.

    JSON columns are merged into. Nothing changed: an empty result, and the row stays at its version.
    """
    columns = inspect(type(row)).columns
    changes: Changes = {}
    for name, value in values.items():
        if name not in columns:
            raise TypeError(f"{type(row).__name__} has no column {name}")
        before = getattr(row, name)
        is_document = isinstance(before, Mapping) and isinstance(value, Mapping)
        after = merge_patch(before, value) if is_document else value
        if after != before:
            setattr(row, name, after)
            changes[name] = (before, after)
    if changes:
        touch(uow, row)
    return changes


def told(changes: Changes) -> dict[str, list[Any]]:
    """Changes as a fact tells of them, `{column: [before, after]}`: ids and times as text, long text by its start."""
    return {name: [_plain(before), _plain(after)] for name, (before, after) in changes.items()}


def touch(uow: UnitOfWork, row: Row) -> None:
    """Bring a row to its next version, changed now."""
    changed: Any = row
    changed.version += 1
    changed.updated_at = uow.now


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return value.isoformat() if isinstance(value, datetime) else str(value)[:MAX_TOLD_CHARACTERS]
