from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from remit_local.embedded_model import MODEL, EmbeddedModel, is_installed, wait_ready
from remit_local.loopback import free_port
from remit_local.process import ServerError, is_alive, kill_family, spawn, wait_until

pytestmark = [
    pytest.mark.skipif(not is_installed(), reason="the embedded model is not installed"),
    pytest.mark.xdist_group("embedded_model"),
]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


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
async def session(model: EmbeddedModel) -> AsyncIterator[aiohttp.ClientSession]:
    await wait_ready(model.base_url)
    key = {"Authorization": f"Bearer {model.key_file.read_text()}"}
    async with aiohttp.ClientSession(headers=key, timeout=aiohttp.ClientTimeout(total=50)) as session:
        yield session


async def ask(session: aiohttp.ClientSession, model: EmbeddedModel, text: str, **more: Any) -> dict[str, Any]:
    asked = {
        "model": MODEL,
        "temperature": 0,
        "max_tokens": 40,
        "messages": [{"role": "user", "content": text}],
        **more,
    }
    async with session.post(f"{model.base_url}/chat/completions", json=asked) as response:
        assert response.status == 200
        answer: dict[str, Any] = await response.json()
        return answer


@pytest.mark.anyio
async def test_the_real_model_answers_in_words_and_counts_its_tokens(
    session: aiohttp.ClientSession, model: EmbeddedModel
) -> None:
    answer = await ask(session, model, "What is the capital of France? One short sentence.")
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["model"] == MODEL
    assert answer["usage"]["prompt_tokens"] > 10
    assert 0 < answer["usage"]["completion_tokens"] <= 40


@pytest.mark.anyio
async def test_the_real_model_answers_in_the_shape_of_a_schema(
    session: aiohttp.ClientSession, model: EmbeddedModel
) -> None:
    shape = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    answer = await ask(session, model, "Anna is 34 years old. Extract as JSON.", response_format=shape)
    person = orjson.loads(answer["choices"][0]["message"]["content"])
    assert set(person) == {"name", "age"}
    assert isinstance(person["name"], str)
    assert isinstance(person["age"], int)


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models/none", "/slots", "/props"])
async def test_without_the_key_nothing_is_told(session: aiohttp.ClientSession, model: EmbeddedModel, path: str) -> None:
    url = model.base_url.removesuffix("/v1") + path
    async with session.post(url, json={}, headers={"Authorization": "Bearer other"}) as response:
        assert response.status in {401, 403}


@pytest.mark.anyio
async def test_prompts_in_progress_are_shown_to_nobody(session: aiohttp.ClientSession, model: EmbeddedModel) -> None:
    async with session.get(model.base_url.removesuffix("/v1") + "/slots") as response:
        assert response.status != 200


@pytest.mark.anyio
async def test_a_server_that_is_not_there_is_an_error_with_words() -> None:
    with pytest.raises(ServerError, match="did not answer"):
        await wait_ready(f"http://127.0.0.1:{free_port()}/v1", timeout_seconds=0.3)


def test_the_key_is_not_in_the_list_of_processes(model: EmbeddedModel) -> None:
    assert model.key_file.read_text() not in " ".join(model.command().launched())


def test_it_dies_with_whoever_started_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key")
    script = f"""
import sys, time
from pathlib import Path
from remit_local.embedded_model import EmbeddedModel
from remit_local.process import spawn
model = EmbeddedModel({free_port()}, Path({str(tmp_path / "key")!r}), slots=1)
print(spawn(model.command(), sys.stderr.buffer).pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not is_alive(child), 10, "end of the model")
