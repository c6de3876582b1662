"""Routes of what models cost."""

from datetime import UTC, datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import Depends, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from chassis.http import Router, Uow
from execution.tables.model_prices import ModelPrice
from execution.usecases import model_prices
from resources.bodies import In
from resources.http import CountOut, ExpectedVersion, Listing
from resources.listing import ListQuery
from resources.patches import PatchIn
from resources.versions import etag

router = Router("model_price", prefix="/v1/model-prices")

Provider = Literal["embedded", "openai", "openai-compatible", "anthropic"]
ModelName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^*\x00-\x1f]*\*?$",
        description="The model's name as agents write it, or the beginning of names and a star: `llama-*`.",
    ),
]
MAX_USD_MICROS_PER_MILLION = 10_000_000_000
"""Ten thousand dollars for a million tokens."""
PerMillion = Annotated[
    int, Field(ge=0, le=MAX_USD_MICROS_PER_MILLION, description="Micro-USD per million tokens: 150000 is $0.15.")
]


class ModelPriceOut(BaseModel):
    """What a model costs from a moment on."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization_id: UUID
    provider: str
    model_name: str
    input_usd_micros_per_million: int
    output_usd_micros_per_million: int
    valid_from: AwareDatetime
    created_by: str
    created_at: AwareDatetime
    updated_at: AwareDatetime
    version: int

    @classmethod
    def of(cls, row: ModelPrice) -> Self:
        """The public form of a row."""
        return cls.model_validate(row)


class CreateModelPriceIn(In):
    """A price; the exact name comes before a beginning, a longer beginning before a shorter, the latest before all."""

    provider: Provider
    model_name: ModelName
    input_usd_micros_per_million: PerMillion
    output_usd_micros_per_million: PerMillion
    valid_from: AwareDatetime | None = Field(None, description="From when on; left out: from now.")


class UpdateModelPriceIn(PatchIn):
    """A merge patch: what is left out stays. Another model is another price."""

    input_usd_micros_per_million: PerMillion = 0
    output_usd_micros_per_million: PerMillion = 0
    valid_from: AwareDatetime = datetime(2000, 1, 1, tzinfo=UTC)


PRICE_LIST = Listing(model_prices.MODEL_PRICES, ModelPriceOut)


@router.post("", permission="model_price:create", status=201)
async def create_model_price(uow: Uow, response: Response, body: CreateModelPriceIn) -> ModelPriceOut:
    """Say what a model costs."""
    created = await model_prices.create_model_price(uow, **dict(body))
    response.headers["ETag"] = etag(created.version)
    response.headers["Location"] = f"/v1/model-prices/{created.id}"
    return ModelPriceOut.of(created)


@router.get("", permission="model_price:read", **PRICE_LIST.options)
async def list_model_prices(uow: Uow, query: Annotated[ListQuery, Depends(PRICE_LIST.query)]) -> Response:
    """The organization's own prices."""
    return PRICE_LIST.answer(await model_prices.list_model_prices(uow, query))


@router.get("/count", permission="model_price:read")
async def count_model_prices(uow: Uow, query: Annotated[ListQuery, Depends(PRICE_LIST.query)]) -> CountOut:
    """How many prices such a list would show."""
    return CountOut(count=await model_prices.count_model_prices(uow, query))


@router.get("/{model_price_id}", permission="model_price:read")
async def get_model_price(uow: Uow, response: Response, model_price_id: UUID) -> ModelPriceOut:
    """One price."""
    found = await model_prices.get_model_price(uow, model_price_id)
    response.headers["ETag"] = etag(found.version)
    return ModelPriceOut.of(found)


@router.patch("/{model_price_id}", permission="model_price:update")
async def update_model_price(
    uow: Uow, response: Response, model_price_id: UUID, body: UpdateModelPriceIn, version: ExpectedVersion
) -> ModelPriceOut:
    """Correct a price; needs If-Match. What was booked stays."""
    changed = await model_prices.update_model_price(uow, model_price_id, body.given(), expected_version=version)
    response.headers["ETag"] = etag(changed.version)
    return ModelPriceOut.of(changed)


@router.delete("/{model_price_id}", permission="model_price:delete")
async def delete_model_price(uow: Uow, model_price_id: UUID) -> None:
    """Take a price back."""
    await model_prices.delete_model_price(uow, model_price_id)
