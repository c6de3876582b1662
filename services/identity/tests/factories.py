"""Facts of others that identity hears."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

from chassis.ids import new_id
from contracts.billing import SubscriptionState
from contracts.gateway import GatewayState

S = TypeVar("S", bound=SubscriptionState)
G = TypeVar("G", bound=GatewayState)


def subscription(kind: type[S], *, version: int = 1, plan_id: str = "free", max_users: int = 10) -> S:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    limits: dict[str, Any] = dict.fromkeys(
        ("max_agents", "max_executions_per_month", "max_storage_gb", "max_gateways"), 5
    )
    return kind(
        subscription_id=new_id(), version=version, plan_id=plan_id, status="active", current_period_start=now,
        current_period_end=now, max_users=max_users, **limits,
    )  # fmt: skip


def gateway(kind: type[G]) -> G:
    return kind(gateway_id=new_id(), version=1, name="default", gateway_type="http", status="active", is_default=True)
