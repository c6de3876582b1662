"""Two agents in Python. A function takes the step's input, and what is known of the step; it answers with JSON.

`step` has organization_id, run_id, node, iteration, attempt, traceparent and idempotency_key, which is the same for
every attempt at this step: pass it on to whatever must not happen twice.
"""

import asyncio
from typing import Any


def greet(input: Any, step: Any) -> Any:
    """A plain function runs in a thread of its own, so it may block."""
    if not input["name"].strip():
        raise NobodyError
    return {"text": f"Hello, {input['name']}!", "attempt": step.attempt}


async def count_words(input: Any, step: Any) -> Any:
    """A coroutine runs in the worker's loop, beside hundreds of others: it must not block."""
    await asyncio.sleep(0)
    return {"words": len(input["text"].split()), "node": step.node}


class NobodyError(Exception):
    """The run ends with this code; `not_on: [nobody]` in the agent's retry keeps it from being tried again."""

    code = "nobody"
