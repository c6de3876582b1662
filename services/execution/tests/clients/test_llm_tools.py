"""Models that call tools: both are servers over real HTTP, and so is the way between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import orjson
import pytest
from services.execution.tests.clients.calls import make_call
from services.execution.tests.scripted_anthropic import ScriptedAnthropic, scripted_anthropic
from services.execution.tests.scripted_mcp import SEARCH, Said, ScriptedMcp, scripted_mcp
from services.execution.tests.scripted_openai import Reply, ScriptedOpenAI, scripted_openai

from chassis.outbound import OutboundClient
from execution.clients.agents import AgentCall, AgentError, AgentResult
from execution.clients.llm import LlmRunner
from execution.clients.mcp_library import IDEMPOTENCY_KEY

pytestmark = pytest.mark.anyio
CITY = "output_schema: {type: object, properties: {city: {type: string}}, required: [city]}\n"
SEARCHING = Reply(calls=(("search", {"q": "rivers"}),), usage=(20, 5))


@dataclass
class World:
    model: ScriptedOpenAI
    anthropic: ScriptedAnthropic
    tools: ScriptedMcp
    runner: LlmRunner

    def config(self, more: str = "", *, limits: str = "max_tokens: 20000", **changes: str) -> str:
        model = f'provider: openai-compatible, name: small, base_url: "{self.model.base_url}"'
        source = f'mcp: {{url: "{self.tools.url}", credential: desk}}, tools: [search], effects: read'
        return (
            f"apiVersion: agent/v1\nkind: llm\nmodel: {{{changes.get('model', model)}, max_output_tokens: 60}}\n"
            f"instructions: Answer shortly.\ntools: [{{{changes.get('source', source)}}}]\nlimits: {{{limits}}}\n{more}"
        )

    async def run(self, text: str, value: Any = "Where?", **changes: Any) -> AgentResult:
        return await self.runner.run(make_call(text, value, credentials={"desk": "the-token"}, **changes))

    async def failure(self, text: str, **changes: Any) -> AgentError:
        with pytest.raises(AgentError) as failed:
            await self.run(text, **changes)
        assert "secret" not in str(failed.value)
        return failed.value

    def said_to_model(self, number: int) -> list[tuple[str, Any]]:
        return self.model.requests[number].texts


@pytest.fixture
async def world(anyio_backend: object) -> AsyncIterator[World]:
    client = OutboundClient("execution", allow=[ip_network("127.0.0.0/8")])
    async with scripted_openai() as model, scripted_anthropic() as anthropic, scripted_mcp() as tools:
        yield World(model, anthropic, tools, LlmRunner(client))
    await client.close()


async def test_a_model_calls_a_tool_and_answers_with_what_it_says(world: World) -> None:
    world.model.replies = [SEARCHING, Reply("In the south.", usage=(40, 6))]
    result = await world.run(world.config())
    assert result.output == {"text": "In the south."}
    assert (result.input_tokens, result.output_tokens, result.calls) == (60, 11, ((20, 5), (40, 6)))
    assert (result.provider, result.model, result.answered_by) == ("openai-compatible", "small", "small-dated")
    assert [call["arguments"] for call in world.tools.calls] == [{"q": "rivers"}]
    first, second = world.model.requests
    offered = first.body["tools"]
    assert [tool["function"]["name"] for tool in offered] == ["search"]
    assert offered[0]["function"]["description"] == "Finds documents."
    assert offered[0]["function"]["parameters"]["properties"] == {"q": {"type": "string"}}
    assert world.said_to_model(0) == [("system", "Answer shortly."), ("user", "Where?")]
    assert [role for role, _ in second.texts] == ["system", "user", "assistant", "tool"]
    assert second.texts[-1] == ("tool", "found it")
    assert {headers["authorization"] for headers in world.tools.headers} == {"Bearer the-token"}
    assert all("authorization" not in request.headers for request in world.model.requests)
    assert world.tools.methods.count("DELETE") == 1


async def test_a_model_that_wants_no_tool_just_answers(world: World) -> None:
    result = await world.run(world.config())
    assert (result.output, result.calls, world.tools.calls) == ({"text": "hello"}, ((11, 7),), [])


async def test_data_of_tools_is_read_as_json_and_several_calls_go_at_once(world: World) -> None:
    calls = (("search", {"q": "a"}), ("search", {"q": "b"}))
    world.model.replies = [Reply(calls=calls), Reply("both")]
    world.tools.answers = [Said("x", data={"found": 1}), Said("x", data={"found": 1})]
    assert (await world.run(world.config())).output == {"text": "both"}
    told = [text for role, text in world.said_to_model(1) if role == "tool"]
    assert [orjson.loads(text) for text in told] == [{"found": 1}, {"found": 1}]
    assert sorted(call["arguments"]["q"] for call in world.tools.calls) == ["a", "b"]


async def test_a_schema_shapes_the_answer_after_the_tools(world: World) -> None:
    world.model.replies = [SEARCHING, Reply('{"city": "Paris"}')]
    assert (await world.run(world.config(CITY))).output == {"city": "Paris"}
    assert world.model.requests[1].body["response_format"]["type"] == "json_schema"
    world.model.replies = [SEARCHING, Reply('{"town": "Paris"}')]
    failed = await world.failure(world.config(CITY))
    assert (failed.code, failed.retryable, failed.calls) == ("invalid_output", True, ((20, 5), (11, 7)))


async def test_pieces_of_the_answer_arrive_while_it_is_written(world: World) -> None:
    pieces: list[str] = []
    world.model.replies = [SEARCHING, Reply("one two three")]
    result = await world.run(world.config(), on_delta=pieces.append)
    assert len(pieces) == 3
    assert "".join(pieces) == result.output["text"]
    assert result.calls == ((20, 5), (11, 7))


async def test_models_of_anthropic_call_tools_too(world: World) -> None:
    world.anthropic.replies = [SEARCHING, Reply("In the south.", usage=(40, 6))]
    model = f'provider: anthropic, name: claude-haiku-4-5, base_url: "{world.anthropic.base_url}"'
    result = await world.run(world.config(model=model), {})
    assert (result.output, result.calls) == ({"text": "In the south."}, ((20, 5), (40, 6)))
    told = world.anthropic.requests[1].body["messages"]
    assert told[0] == {"role": "user", "content": [{"type": "text", "text": "Answer shortly."}]}
    assert "found it" in str(told[-1]["content"])


async def test_what_a_tool_reports_as_its_error_the_model_is_told(world: World) -> None:
    world.model.replies = [SEARCHING, Reply("I could not find out.")]
    world.tools.answers = [Said("no such page", is_error=True)]
    assert (await world.run(world.config())).output == {"text": "I could not find out."}
    assert "no such page" in str(world.said_to_model(1)[-1])


@pytest.mark.parametrize("wrong", [{"q": 5}, {}, "no json", ["a", "list"]])
async def test_a_call_that_is_none_may_be_corrected(world: World, wrong: Any) -> None:
    world.model.replies = [Reply(calls=(("search", wrong),)), SEARCHING, Reply("found")]
    assert (await world.run(world.config())).output == {"text": "found"}
    assert [call["arguments"] for call in world.tools.calls] == [{"q": "rivers"}]


async def test_a_model_that_never_gets_it_right_is_given_up(world: World) -> None:
    for wrong in (("search", {"q": 5}), ("remove", {})):
        world.model.requests, world.model.replies = [], [Reply(calls=(wrong,))]
        failed = await world.failure(world.config())
        assert (failed.code, world.tools.calls) == ("invalid_output", [])
        assert failed.input_tokens == 11 * len(world.model.requests)
        assert 2 <= len(world.model.requests) <= 4


async def test_only_the_tools_that_are_named_are_offered_and_all_must_be_there(world: World) -> None:
    source = f'mcp: {{url: "{world.tools.url}"}}, tools: [search, forget]'
    failed = await world.failure(world.config(source=source))
    assert (failed.code, failed.retryable, world.model.requests) == ("unknown_tool", False, [])


async def test_a_tool_without_a_usable_schema_is_not_offered(world: World) -> None:
    world.tools.tools = [{**SEARCH, "inputSchema": {"type": "object", "properties": {"q": {"type": "strin"}}}}]
    assert (await world.failure(world.config())).code == "unknown_tool"
    world.tools.tools = [{**SEARCH, "inputSchema": {**SEARCH["inputSchema"], "$schema": "http://json-schema.org/draft-07/schema#"}}]  # fmt: skip
    assert (await world.run(world.config())).output == {"text": "hello"}


@pytest.mark.parametrize(
    ("said", "code", "retryable"),
    [
        (Said(status=503), "unavailable", True),
        (Said(status=401), "unauthorized", False),
        (Said(streamed=True, breaks_off=True), "unavailable", True),
        (Said("x" * 5 * 1024 * 1024), "too_large", False),
    ],
    ids=["503", "401", "breaks off", "large"],
)
async def test_a_server_of_tools_that_fails_ends_the_attempt_which_is_paid(
    world: World, said: Said, code: str, *, retryable: bool
) -> None:
    world.model.replies, world.tools.answers = [SEARCHING, Reply("never")], [said]
    failed = await world.failure(world.config())
    assert (failed.code, failed.retryable, failed.calls) == (code, retryable, ((20, 5),))
    assert (failed.provider, failed.model, failed.input_tokens, failed.output_tokens) == ("openai-compatible", "small", 20, 5)  # fmt: skip
    assert len(world.model.requests) == 1


async def test_a_server_of_tools_that_cannot_be_had_stops_before_the_model(world: World) -> None:
    further = f'provider: openai-compatible, name: other, base_url: "{world.model.base_url}"'
    model = f"{further}, fallback: [{{{further}}}]"
    source = 'mcp: {url: "http://127.0.0.1:1/mcp"}, tools: [search]'
    failed = await world.failure(world.config(model=model, source=source))
    assert (failed.code, failed.retryable, world.model.requests) == ("unavailable", True, [])


async def test_another_model_takes_over_only_before_anything_is_paid(world: World) -> None:
    first = f'provider: openai-compatible, name: first, base_url: "{world.model.base_url}"'
    model = (
        f'{first}, fallback: [{{provider: anthropic, name: claude-haiku-4-5, base_url: "{world.anthropic.base_url}"}}]'
    )
    world.model.replies, world.anthropic.replies = [Reply(status=503)], [SEARCHING, Reply("found")]
    result = await world.run(world.config(model=model))
    assert (result.provider, result.output, len(world.tools.calls)) == ("anthropic", {"text": "found"}, 1)
    world.model.replies, world.anthropic.requests = [SEARCHING, Reply(status=503)], []
    failed = await world.failure(world.config(model=model))
    assert (failed.code, failed.model, failed.calls) == ("unavailable", "first", ((20, 5),))
    assert world.anthropic.requests == []


async def test_no_more_tool_calls_are_made_than_allowed(world: World) -> None:
    world.model.replies = [SEARCHING]
    failed = await world.failure(world.config(limits="max_tokens: 20000, max_tool_calls: 2"))
    assert (failed.code, failed.retryable, len(world.tools.calls)) == ("max_tool_calls", False, 2)
    assert failed.calls == ((20, 5),) * 3
    world.tools.messages.clear()
    world.tools.answers = [Said("broke", is_error=True)]
    failed = await world.failure(world.config(limits="max_tokens: 20000, max_tool_calls: 2"))
    assert (failed.code, len(world.tools.calls)) == ("max_tool_calls", 2)


async def test_a_request_that_could_pass_the_tokens_is_not_made(world: World) -> None:
    world.model.replies = [SEARCHING, Reply("never")]
    world.tools.answers = [Said("word " * 2_000)]
    failed = await world.failure(world.config(limits="max_tokens: 2000"))
    assert (failed.code, failed.retryable, failed.calls) == ("max_tokens", False, ((20, 5),))
    assert len(world.model.requests) == 1


async def test_tokens_nobody_counted_are_estimated(world: World) -> None:
    world.model.replies = [Reply(calls=SEARCHING.calls, usage=None), Reply("found", usage=None)]
    result = await world.run(world.config())
    assert result.usage_estimated
    assert len(result.calls) == 2
    assert all(asked > 50 and answered > 1 for asked, answered in result.calls)


async def test_a_slow_tool_times_out_and_what_was_used_is_told(world: World) -> None:
    await world.run(world.config())
    world.model.replies, world.tools.answers = [SEARCHING], [Said(delay_seconds=30)]
    failed = await world.failure(world.config(), deadline_seconds=2.0)
    assert (failed.code, failed.retryable, failed.calls) == ("timeout", True, ((20, 5),))


@pytest.mark.parametrize("more", ["", "strategy: json_action\n"])
async def test_cancelling_a_call_of_a_tool_ends_it_at_once(world: World, more: str) -> None:
    acting = Reply('{"value": {"tool": "search", "arguments": {"q": "rivers"}}}')
    world.model.replies, world.tools.answers = [acting if more else SEARCHING], [Said(delay_seconds=30)]
    asked = asyncio.create_task(world.run(world.config(more)))
    await world.tools.called.wait()
    asked.cancel()
    async with asyncio.timeout(3):
        with pytest.raises(asyncio.CancelledError):
            await asked


async def test_what_has_written_is_not_attempted_again(world: World) -> None:
    source = f'mcp: {{url: "{world.tools.url}"}}, tools: [search]'
    for reply in (Reply(status=503), Reply("no json")):
        world.model.replies = [SEARCHING, reply]
        failed = await world.failure(world.config(CITY, source=source))
        assert failed.retryable is False
    world.model.replies = [Reply(status=503)]
    assert (await world.failure(world.config(source=source))).retryable


async def test_the_same_call_has_the_same_key_in_every_attempt(world: World) -> None:
    async def keys(call: AgentCall, *asked: str) -> list[str]:
        world.tools.messages.clear()
        world.model.replies = [*(Reply(calls=(("search", {"q": q}),)) for q in asked), Reply("found")]
        await world.runner.run(call)
        return [said["_meta"][IDEMPOTENCY_KEY] for said in world.tools.calls]

    call = make_call(world.config(), "hi")
    first, again = await keys(call, "a", "b", "a"), await keys(call, "b", "a")
    assert len(set(first)) == 3
    assert again == [first[1], first[0]]
    assert all(key.startswith(f"{call.idempotency_key}:") for key in first)
    assert set(await keys(make_call(world.config(), "hi"), "a")).isdisjoint(first)
