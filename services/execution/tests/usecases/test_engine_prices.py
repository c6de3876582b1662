"""How the engine reads prices: for many at once, seldom, and never somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from services.execution.tests.stage import Stage

from chassis.ids import new_id
from execution.domain.prices import UnknownPriceError
from execution.usecases import engine_prices
from execution.usecases.engine_prices import Prices
from execution.usecases.engine_rows import Rows

pytestmark = pytest.mark.anyio
AT = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Counted:
    """The batch role's connections, with what was asked through them."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.asked: list[set[UUID]] = []

    async def fetch(self, organizations: set[UUID], statement: str, *values: object) -> Any:
        self.asked.append(organizations)
        return await self._rows.fetch(organizations, statement, *values)


@pytest.fixture
async def rows(stage: Stage) -> AsyncIterator[Counted]:
    opened = await Rows.open(stage.database.url("batch"), "test")
    yield Counted(opened)
    await opened.close()


async def say(stage: Stage, organization_id: UUID, model: str, micros: int, since: datetime = AT) -> None:
    await stage.sql(
        """insert into model_price (id, organization_id, provider, model_name, input_usd_micros_per_million,
        output_usd_micros_per_million, valid_from, created_by) values ($1, $2, 'openai-compatible', $3, $4, $4, $5, 'x')""",
        new_id(), organization_id, model, micros, since,
    )  # fmt: skip


async def cost(prices: Prices, organization_id: UUID, model: str = "m", at: datetime = AT) -> int:
    price = await prices.price_of(organization_id, "openai-compatible", model, at)
    return price.cost_usd_micros(1_000_000, 0)


async def test_those_who_ask_together_share_a_statement_and_later_ones_need_none(stage: Stage, rows: Counted) -> None:
    organizations = [new_id() for _ in range(20)]
    for number, organization_id in enumerate(organizations, 1):
        await say(stage, organization_id, "m", number)
    prices = Prices(rows)  # type: ignore[arg-type]
    asked = [*organizations, *organizations, *organizations]
    found = await asyncio.gather(*(cost(prices, organization_id) for organization_id in asked))
    assert found == [*range(1, 21)] * 3
    assert rows.asked == [set(organizations)]


async def test_prices_are_read_again_when_they_are_old(
    stage: Stage, rows: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    organization_id = new_id()
    prices = Prices(rows)  # type: ignore[arg-type]
    monkeypatch.setattr(engine_prices, "FRESH_SECONDS", 3_600.0)
    for _ in range(3):
        with pytest.raises(UnknownPriceError):
            await cost(prices, organization_id)
    assert len(rows.asked) == 1
    await say(stage, organization_id, "m", 5)
    monkeypatch.setattr(engine_prices, "FRESH_SECONDS", 0.0)
    assert await cost(prices, organization_id) == 5
    assert len(rows.asked) == 2


async def test_a_price_that_is_known_ahead_holds_from_its_moment_on(stage: Stage, rows: Counted) -> None:
    organization_id = new_id()
    await say(stage, organization_id, "m*", 1, AT - timedelta(days=9))
    await say(stage, organization_id, "m*", 2, AT + timedelta(days=1))
    prices = Prices(rows)  # type: ignore[arg-type]
    assert await cost(prices, organization_id, "m-large") == 1
    assert await cost(prices, organization_id, "m-large", AT + timedelta(days=2)) == 2


async def test_only_so_many_organizations_are_held(
    stage: Stage, rows: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_prices, "KEPT", 2)
    monkeypatch.setattr(engine_prices, "FRESH_SECONDS", 3_600.0)
    organizations = [new_id() for _ in range(3)]
    prices = Prices(rows)  # type: ignore[arg-type]
    for organization_id in organizations:
        await say(stage, organization_id, "m", 7)
        assert await cost(prices, organization_id) == 7
    assert await cost(prices, organizations[2]) == 7
    assert len(rows.asked) == 3
    assert await cost(prices, organizations[0]) == 7
    assert len(rows.asked) == 4
