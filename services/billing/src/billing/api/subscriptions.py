"""Routes of the organization's subscription."""

from datetime import datetime
from typing import Self
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel, Field

from billing.tables.subscriptions import Subscription
from billing.usecases import subscriptions
from chassis.http import Router, Uow
from resources.http import ExpectedVersion
from resources.versions import etag

router = Router("subscription", prefix="/v1")

MAX_LIMIT = 2_000_000_000
"""No number of a subscription is above this."""


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
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, row: Subscription) -> Self:
        """The public form of a row."""
        return cls.model_validate(row, from_attributes=True)


class ChangePlanIn(BaseModel):
    """A plan, and numbers that differ from it."""

    plan_id: str = Field(description="free, pro or enterprise: its numbers hold where none is given.")
    max_users: int | None = Field(None, ge=1, le=MAX_LIMIT)
    max_agents: int | None = Field(None, ge=1, le=MAX_LIMIT)
    max_executions_per_month: int | None = Field(None, ge=0, le=MAX_LIMIT)
    max_storage_gb: int | None = Field(None, ge=0, le=MAX_LIMIT)
    max_gateways: int | None = Field(None, ge=1, le=MAX_LIMIT)


@router.get("/subscription", permission="subscription:read")
async def get_subscription(uow: Uow, response: Response) -> SubscriptionOut:
    """The organization's plan and its limits."""
    return _out(await subscriptions.get_subscription(uow), response)


@router.get("/platform/subscriptions/{organization_id}", permission="platform:read")
async def get_subscription_of(uow: Uow, organization_id: UUID, response: Response) -> SubscriptionOut:
    """What the platform has sold to an organization."""
    return _out(await subscriptions.get_subscription_of(uow, organization_id), response)


@router.patch("/platform/subscriptions/{organization_id}", permission="platform:update")
async def change_plan(
    uow: Uow, organization_id: UUID, body: ChangePlanIn, expected: ExpectedVersion, response: Response
) -> SubscriptionOut:
    """Move an organization to another plan, or change single limits."""
    limits = body.model_dump(exclude={"plan_id"}, exclude_none=True)
    changed = await subscriptions.change_plan(
        uow, organization_id, plan_id=body.plan_id, limits=limits, expected_version=expected
    )
    return _out(changed, response)


def _out(row: Subscription, response: Response) -> SubscriptionOut:
    response.headers["etag"] = etag(row.version)
    return SubscriptionOut.of(row)
