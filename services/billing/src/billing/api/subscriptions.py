"""Routes of the organization's subscription."""

from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import BaseModel, Field

from billing.tables.subscriptions import Subscription
from billing.usecases import subscriptions
from chassis.http import Router, Uow

router = Router("subscription", prefix="/v1")


class SubscriptionOut(BaseModel):
    """What an organization may use, and until when."""

    id: UUID
    organization_id: UUID
    plan_id: str
    status: str
    billing_cycle: str
    current_period_start: datetime
    current_period_end: datetime
    stripe_subscription_id: str | None
    max_users: int
    max_agents: int
    max_executions_per_month: int
    max_storage_gb: int
    max_gateways: int
    version: int

    @classmethod
    def of(cls, row: Subscription) -> Self:
        """The public form of a row."""
        return cls.model_validate(row, from_attributes=True)


class ChangePlanIn(BaseModel):
    """A plan, and numbers that differ from it."""

    plan_id: str
    max_users: int | None = Field(None, ge=1)
    max_agents: int | None = Field(None, ge=1)
    max_executions_per_month: int | None = Field(None, ge=0)
    max_storage_gb: int | None = Field(None, ge=0)
    max_gateways: int | None = Field(None, ge=1)


@router.get("/subscription", permission="subscription:read")
async def get_subscription(uow: Uow) -> SubscriptionOut:
    """The organization's plan and its limits."""
    return SubscriptionOut.of(await subscriptions.get_subscription(uow))


@router.patch("/platform/subscriptions/{organization_id}", permission="platform:update")
async def change_plan(uow: Uow, organization_id: UUID, body: ChangePlanIn) -> SubscriptionOut:
    """Move an organization to another plan, or change single limits."""
    limits = body.model_dump(exclude={"plan_id"}, exclude_none=True)
    return SubscriptionOut.of(
        await subscriptions.change_plan(uow, organization_id, plan_id=body.plan_id, limits=limits)
    )
