"""Tools for models that know no tool calls: what they may answer is a schema, sent to a server over real HTTP."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from services.execution.tests.clients.test_llm_tools import CITY, World
from services.execution.tests.clients.test_llm_tools import world as world  # noqa: PLC0414  (a fixture)
from services.execution.tests.scripted_mcp import SEARCH, Said
from services.execution.tests.scripted_openai import Reply

pytestmark = pytest.mark.anyio
ACTING = "strategy: json_action\n"


def action(**said: Any) -> Reply:
    return Reply(orjson.dumps({"value": said}).decode(), usage=(20, 5))


SEARCHING = action(tool="search", arguments={"q": "rivers"})


def offered(world: World, number: int) -> dict[str, Any]:
    schema: dict[str, Any] = world.model.requests[number].body["response_format"]["json_schema"]["schema"]
    return schema["properties"].get("value", schema)


async def test_a_model_acts_until_it_answers(world: World) -> None:
    pieces: list[str] = []
    world.model.replies = [SEARCHING, action(answer="In the south.")]
    result = await world.run(world.config(ACTING), on_delta=pieces.append)
    assert (result.output, result.calls, pieces) == ({"text": "In the south."}, ((20, 5), (20, 5)), ["In the south."])
    assert [call["arguments"] for call in world.tools.calls] == [{"q": "rivers"}]
    first, second = world.model.requests
    assert "tools" not in first.body
    act, answer = offered(world, 0)["anyOf"]
    assert act["properties"]["tool"] == {"type": "string", "enum": ["search"]}
    assert act["properties"]["arguments"]["properties"] == {"q": {"type": "string"}}
    assert answer["properties"]["answer"] == {"type": "string", "maxLength": 120}
    role, instructions = first.texts[0]
    assert role == "system"
    assert instructions.startswith("Answer shortly.")
    assert "search: Finds documents." in instructions
    assert [role for role, _ in second.texts] == ["system", "user", "assistant", "user"]
    assert second.texts[-1] == ("user", "search: found it")


async def test_the_answer_has_the_shape_of_the_agents_schema(world: World) -> None:
    world.model.replies = [SEARCHING, action(answer={"city": "Paris"})]
    assert (await world.run(world.config(ACTING + CITY))).output == {"city": "Paris"}
    world.model.replies = [action(answer={"town": "Paris"})]
    failed = await world.failure(world.config(ACTING + CITY))
    assert (failed.code, failed.retryable, failed.calls) == ("invalid_output", True, ((20, 5),))


async def test_when_its_calls_are_used_up_it_has_to_answer(world: World) -> None:
    world.model.replies = [SEARCHING, Reply('{"answer": "enough"}')]
    text = world.config(ACTING, limits="max_tokens: 20000, max_tool_calls: 1")
    assert (await world.run(text)).output == {"text": "enough"}
    assert list(offered(world, 1)["properties"]) == ["answer"]
    world.model.replies = [SEARCHING, Reply('{"tool": "search", "arguments": {"q": "x"}}')]
    assert (await world.failure(text)).code == "invalid_output"
    assert len(world.tools.calls) == 2


async def test_errors_of_tools_and_wrong_arguments_are_told_and_count(world: World) -> None:
    world.tools.tools = [{**SEARCH, "inputSchema": {"type": "object", "properties": {"q": {"$ref": "#/$defs/q"}}, "$defs": {"q": {"type": "string"}}}}]  # fmt: skip
    world.tools.answers = [Said("no such page", is_error=True)]
    wrong = action(tool="search", arguments={"q": 5})
    world.model.replies = [wrong, SEARCHING, Reply('{"answer": "I give up."}')]
    text = world.config(ACTING, limits="max_tokens: 20000, max_tool_calls: 2")
    assert (await world.run(text)).output == {"text": "I give up."}
    assert "do not fit at q" in world.said_to_model(1)[-1][1]
    assert "no such page" in world.said_to_model(2)[-1][1]
    assert len(world.tools.calls) == 1


async def test_a_server_that_fails_ends_the_attempt_which_is_paid(world: World) -> None:
    world.model.replies, world.tools.answers = [SEARCHING], [Said(status=503)]
    failed = await world.failure(world.config(ACTING))
    assert (failed.code, failed.retryable, failed.calls) == ("unavailable", True, ((20, 5),))


async def test_a_request_that_could_pass_the_tokens_is_not_made(world: World) -> None:
    world.model.replies, world.tools.answers = [SEARCHING], [Said("word " * 2_000)]
    failed = await world.failure(world.config(ACTING, limits="max_tokens: 2000"))
    assert (failed.code, failed.calls) == ("max_tokens", ((20, 5),))
