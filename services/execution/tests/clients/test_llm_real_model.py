from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from services.execution.tests.clients.calls import make_call
from services.execution.tests.scripted_mcp import SEARCH, Said, scripted_mcp

from chassis.outbound import OutboundClient
from execution.clients.agents import AgentError
from execution.clients.llm import Endpoint, LlmRunner
from remit_local.embedded_model import EmbeddedModel, is_installed, wait_ready
from remit_local.loopback import free_port
from remit_local.process import kill_family, spawn

pytestmark = [
    pytest.mark.skipif(not is_installed(), reason="the embedded model is not installed"),
    pytest.mark.xdist_group("embedded_model"),
]
AGENT = """
apiVersion: agent/v1
kind: llm
model: {provider: embedded, max_output_tokens: 40}
"""
PERSON = """
output_schema:
  type: object
  properties: {name: {type: string, maxLength: 20}, city: {type: string, maxLength: 20}}
  required: [name, city]
  additionalProperties: false
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedModel]:
    folder = tmp_path_factory.mktemp("model")
    key_file = folder / "key"
    key_file.write_text(secrets.token_urlsafe(16))
    model = EmbeddedModel(free_port(), key_file)
    with (folder / "log").open("wb") as log:
        server = spawn(model.command(), log)
    yield model
    kill_family(server.pid)
    server.wait()


@pytest.fixture
async def runner(model: EmbeddedModel) -> AsyncIterator[LlmRunner]:
    await wait_ready(model.base_url)
    outbound = OutboundClient("execution", allow=[f"127.0.0.1:{model.port}"])
    yield LlmRunner(outbound, embedded=Endpoint(model.base_url, model.key_file.read_text()))
    await outbound.close()


@pytest.mark.anyio
async def test_the_real_model_answers_an_agent(runner: LlmRunner) -> None:
    result = await runner.run(
        make_call(AGENT, "What is the capital of France? One short sentence.", deadline_seconds=50)
    )
    assert "Paris" in result.output["text"]
    assert result.input_tokens > 10
    assert 0 < result.output_tokens <= 40
    assert (result.model, result.answered_by) == ("smollm2-135m-instruct", "smollm2-135m-instruct")
    assert not result.usage_estimated


@pytest.mark.anyio
async def test_the_real_model_fills_a_schema_while_it_is_watched(runner: LlmRunner) -> None:
    pieces: list[str] = []
    text = "Extract as JSON: Anna lives in Berlin."
    result = await runner.run(make_call(AGENT + PERSON, text, deadline_seconds=50, on_delta=pieces.append))
    assert set(result.output) == {"name", "city"}
    assert all(isinstance(value, str) for value in result.output.values())
    assert len(pieces) > 3
    assert result.output_tokens > 0


@pytest.mark.anyio
async def test_more_than_the_model_can_read_is_too_large(runner: LlmRunner) -> None:
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(AGENT, "word " * 6000, deadline_seconds=50))
    assert (failed.value.code, failed.value.retryable) == ("too_large", False)


BOUNDED = {**SEARCH, "inputSchema": {"type": "object", "properties": {"q": {"type": "string", "maxLength": 30}}, "required": ["q"], "additionalProperties": False}}  # fmt: skip
ACTING = """
apiVersion: agent/v1
kind: llm
model: {provider: embedded, max_output_tokens: 60}
instructions: Find out who lives in the town, then answer.
tools: [{mcp: {url: "%s"}, tools: [search], effects: read}]
strategy: json_action
limits: {max_tokens: 8000, max_tool_calls: 1, timeout: 120s}
"""


@pytest.mark.anyio
@pytest.mark.seconds(120)
async def test_the_real_model_calls_a_tool_and_then_answers(model: EmbeddedModel) -> None:
    await wait_ready(model.base_url)
    async with scripted_mcp() as tools:
        tools.tools = [BOUNDED]
        tools.answers = [Said("Anna Keller lives in Paris.")]
        outbound = OutboundClient("execution", allow=[f"127.0.0.1:{port}" for port in (model.port, tools.port)])
        runner = LlmRunner(outbound, embedded=Endpoint(model.base_url, model.key_file.read_text()))
        result = await runner.run(make_call(ACTING % tools.url, "Who lives in Paris?", deadline_seconds=110))
        await outbound.close()
    assert isinstance(result.output["text"], str)
    assert len(result.calls) == 1 + len(tools.calls)
    assert result.input_tokens > 50
