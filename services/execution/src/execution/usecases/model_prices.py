"""What models cost here: said by the organization, read by the engine before and after every call."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from chassis.errors import LimitExceededError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.execution import ModelPriceCreated, ModelPriceDeleted, ModelPriceUpdated
from execution.tables.model_prices import ModelPrice
from resources.listing import Resource, counter, lister
from resources.patches import apply_patch, told
from resources.versions import require_version

MODEL_PRICES = Resource(
    ModelPrice,
    filters=("id", "provider", "model_name", "valid_from", "created_by", "created_at", "updated_at"),
    sorts=("created_at", "updated_at", "model_name", "valid_from"),
)
list_model_prices = lister(MODEL_PRICES)
count_model_prices = counter(MODEL_PRICES)
MAX_MODEL_PRICES = 1_000
"""Of one organization: the engine holds them all."""
TAKEN = "This model has a price from this moment on already."


async def create_model_price(
    uow: UnitOfWork,
    *,
    provider: str,
    model_name: str,
    input_usd_micros_per_million: int,
    output_usd_micros_per_million: int,
    valid_from: datetime | None,
) -> ModelPrice:
    """Say what a model costs from a moment on (None: from now); steps pay it within a second."""
    await _require_room(uow)
    price = ModelPrice(
        id=new_id(),
        organization_id=uow.organization_id,
        provider=provider,
        model_name=model_name,
        input_usd_micros_per_million=input_usd_micros_per_million,
        output_usd_micros_per_million=output_usd_micros_per_million,
        valid_from=valid_from or uow.now,
        created_by=uow.caller.owner_id,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
    await uow.add(price, conflict=TAKEN)
    uow.emit(ModelPriceCreated.of(price))
    return price


async def get_model_price(uow: UnitOfWork, price_id: UUID) -> ModelPrice:
    """One price."""
    return await uow.get(ModelPrice, price_id)


async def update_model_price(
    uow: UnitOfWork, price_id: UUID, values: Mapping[str, Any], *, expected_version: int | None
) -> ModelPrice:
    """Correct a price or its moment; what was booked before stays as it was, under the version it names."""
    price = await uow.get(ModelPrice, price_id, lock=True)
    require_version(price.version, expected_version)
    changes = apply_patch(uow, price, values)
    if changes:
        await uow.add(price, conflict=TAKEN)
        uow.emit(ModelPriceUpdated.of(price, changes=told(changes)))
    return price


async def delete_model_price(uow: UnitOfWork, price_id: UUID) -> None:
    """Take a price back; a model without any other fails from now on."""
    price = await uow.get(ModelPrice, price_id, lock=True)
    await uow.delete(price)
    uow.emit(ModelPriceDeleted.of(price))


async def _require_room(uow: UnitOfWork) -> None:
    """Two that arrive together must not both take the last place."""
    name = f"model_price/{uow.organization_id}"
    await uow.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
    count = await uow.first(select(func.count()).where(ModelPrice.organization_id == uow.organization_id))
    if count >= MAX_MODEL_PRICES:
        raise LimitExceededError(f"An organization may have {MAX_MODEL_PRICES} prices.", code="too_many_model_prices")
