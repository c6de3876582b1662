"""What models cost, for the engine: no statement per run or step, and no price older than a second."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from execution.domain.prices import PUBLIC_PROVIDERS, PriceRow, price_of, rate_of
from execution.usecases.engine_batches import Batches
from execution.usecases.engine_rows import Rows, plain

FRESH_SECONDS = 1.0
KEPT = 1_024
"""Organizations whose prices are held."""
_PRICES = """select p.organization_id, p.id, p.version, p.provider, p.model_name, p.input_usd_micros_per_million,
  p.output_usd_micros_per_million, p.valid_from
from unnest($1::uuid[]) as asked(organization_id) join model_price p on p.organization_id = asked.organization_id"""
Own = tuple[PriceRow, ...]


class Prices:
    """Prices by organization; all that ask while a statement is under way share the next one."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._asked: Batches[UUID, Own] = Batches(self._read, lanes=1)
        self._known: OrderedDict[UUID, tuple[float, Own]] = OrderedDict()

    async def price_of(self, organization_id: UUID, provider: str, model: str, at: datetime) -> PriceRow:
        """What the model costs this organization at a moment; UnknownPriceError when nobody said it."""
        own = await self._own(organization_id)
        if provider in PUBLIC_PROVIDERS:
            # The list of public prices is read at the first look-up: half a second that no other run should wait.
            return await asyncio.to_thread(price_of, provider, model, own, at=at)
        return price_of(provider, model, own, at=at)

    async def _own(self, organization_id: UUID) -> Own:
        asked_at, own = self._known.get(organization_id, (0.0, ()))
        if asked_at + FRESH_SECONDS > asyncio.get_running_loop().time() and organization_id in self._known:
            return own
        return await self._asked.add(organization_id)

    async def _read(self, organization_ids: Sequence[UUID]) -> list[Own]:
        asked_at, wanted = asyncio.get_running_loop().time(), set(organization_ids)
        found: defaultdict[UUID, list[PriceRow]] = defaultdict(list)
        for row in await self._rows.fetch(wanted, _PRICES, list(wanted)):
            found[plain(row["organization_id"])].append(_price(row))
        for organization_id in wanted:
            self._known[organization_id] = asked_at, tuple(found[organization_id])
            self._known.move_to_end(organization_id)
        answers = [self._known[organization_id][1] for organization_id in organization_ids]
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return answers


def _price(row: asyncpg.Record) -> PriceRow:
    rate = rate_of(row["input_usd_micros_per_million"], row["output_usd_micros_per_million"])
    version = f"model_price/{row['id']}/{row['version']}"
    return PriceRow(row["provider"], row["model_name"], (rate,), version, row["valid_from"])
