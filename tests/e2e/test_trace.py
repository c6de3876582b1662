"""One request, one trace: from the edge to the last consumer, as an operator's receiver sees it."""

from __future__ import annotations

import pytest
from tests.receiver import TraceReceiver
from tests.town import Town, until

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STATIONS = {
    ("remit-gateway", "edge"),
    ("remit-execution", "start_run"),
    ("remit-execution", "transaction"),
    ("remit-execution", "publish facts"),
    ("remit-execution", "step"),
    ("remit-execution", "POST 127.0.0.1"),
    ("remit-billing", "consume book_steps"),
    ("remit-policy", "consume record_decisions"),
}
"""Edge, service, its transaction, outbox and stream, worker step, call of the agent, consumers in two other services."""


@pytest.mark.anyio
@pytest.mark.seconds(150)
async def test_one_trace_joins_everything_that_a_request_starts(town: Town, receiver: TraceReceiver) -> None:
    run = await town.run(town.north, {"traceparent": f"00-{TRACE}-{CALLER}-01"})
    assert run["trace_id"] == TRACE

    async def is_whole() -> bool:
        return {(span.service, span.name) for span in receiver.trace(TRACE)} >= STATIONS

    try:
        await until(is_whole, "a span of every station")
    finally:
        seen = receiver.trace(TRACE)
        print(*sorted({(span.service, span.name) for span in seen}), sep="\n")
    known = {span.span_id for span in seen} | {CALLER}
    assert [span for span in seen if span.parent_id not in known] == [], "the trace falls apart"


@pytest.mark.anyio
@pytest.mark.seconds(150)
async def test_what_nobody_samples_carries_its_trace_and_records_nothing(town: Town, receiver: TraceReceiver) -> None:
    run = await town.run(town.north)
    assert len(run["trace_id"]) == 32

    async def explanation() -> dict[str, object] | None:
        reply = await town.ask("GET", f"/v1/runs/{run['id']}/explain", town.north.key)
        return reply.json if not reply.json["pending"] else None

    told = await until(explanation, "a whole explanation")
    assert told is not None
    assert told["trace_id"] == run["trace_id"]
    assert receiver.trace_ids <= {TRACE}


@pytest.mark.anyio
@pytest.mark.seconds(150)
async def test_a_refusal_says_its_trace(town: Town) -> None:
    reply = await town.ask(
        "GET", "/v1/runs/nothing", town.north.key, None, {"traceparent": f"00-{'7' * 32}-{CALLER}-00"}
    )
    assert reply.json["trace_id"] == "7" * 32
