"""Every message class by its type: what a consumer decodes with, and what the golden schemas are made of."""

from __future__ import annotations

from types import ModuleType
from typing import TypeVar

from contracts import audit, billing, chassis, execution, gateway, identity, policy, releases
from contracts.envelope import Command, Fact, Message, Reply

M = TypeVar("M", bound=Message)
_MODULES: tuple[ModuleType, ...] = (identity, billing, policy, gateway, execution, releases, audit, chassis)


def _collect(kind: type[M]) -> dict[str, type[M]]:
    found: dict[str, type[M]] = {}
    for module in _MODULES:
        for value in vars(module).values():
            is_message = isinstance(value, type) and issubclass(value, kind) and "type" in vars(value)
            if is_message and found.setdefault(value.type, value) is not value:
                msg = f"two classes claim the type {value.type}"
                raise TypeError(msg)
    return found


FACTS: dict[str, type[Fact]] = _collect(Fact)
COMMANDS: dict[str, type[Command]] = _collect(Command)
REPLIES: dict[str, type[Reply]] = _collect(Reply)
SERVICES: tuple[str, ...] = ("identity", "billing", "policy", "gateway", "execution", "audit")
