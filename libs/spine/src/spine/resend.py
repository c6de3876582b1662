"""The answer to a gap: a page of the producer's log, and what of the asked range exists nowhere any more."""

from __future__ import annotations

import base64

import asyncpg

from contracts.chassis import FactsResent, ResendFacts
from spine.fact_message import encode
from spine.outbox import COLUMNS

PAGE_FACTS, PAGE_BYTES = 500, 4_000_000

PAGE = f"""
select {COLUMNS} from (
  select *, sum(length(body)) over (order by sequence) as bytes
  from (select * from fact_log where sequence between $1 and $2 order by sequence limit $3) as page
) as sized where bytes <= $4 or sequence = $1 order by sequence"""  # noqa: S608
VOIDS = """
select greatest(last_before + 1, $1) as first, least(first_sequence - 1, $2) as last from fact_epoch
where last_before + 1 <= $2 and first_sequence > $1 and first_sequence > last_before + 1
union all
select $1, least(lowest - 1, $2) from (
  select coalesce((select min(sequence) from fact_log), (select max(sequence) + 1 from fact_head)) as lowest
) as kept
where lowest > $1
order by 1"""


class Resender:
    """Answers `ResendFacts` from the log; runs in every relay process, the standby ones too."""

    def __init__(self, relay_dsn: str) -> None:
        self._asked = False
        self._pool = asyncpg.create_pool(relay_dsn, min_size=0, max_size=1, timeout=5, command_timeout=10)

    async def answer(self, question: ResendFacts) -> FactsResent:
        """One page of the asked range: the facts that are there, and what of it exists nowhere any more."""
        self._asked = True
        await self._pool
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(PAGE, question.first, question.last, PAGE_FACTS, PAGE_BYTES)
            voids = await connection.fetch(VOIDS, question.first, question.last)
        return FactsResent(
            messages=[base64.b64encode(encode(row)).decode() for row in rows],
            voids=[(void["first"], void["last"]) for void in voids],
        )

    async def close(self) -> None:
        """Let the connection go; a pool that was never asked for one cannot be closed."""
        if self._asked:
            await self._pool.close()
