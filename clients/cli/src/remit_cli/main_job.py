"""The main job: a real model reads a real document of this repository, and one id explains what happened."""

import asyncio
from pathlib import Path
from typing import Any

from remit_cli.demo import patiently, remember
from remit_cli.edge import Edge
from remit_cli.explanation import print_explanation
from remit_cli.failures import CliError
from remit_cli.place import DEFAULT_ROLE, Place
from remit_cli.show import console
from remit_cli.watch import watch_run

ROOT = Path(__file__).resolve().parents[4]
SAMPLES = ROOT / "samples"
AGENTS = ("document.agent.yaml", "summarize.agent.yaml")
ORCHESTRATION = "digest.orchestration.yaml"
NAME = "digest"
DOCUMENT = ROOT / "docs" / "decisions" / "0005-locks-without-hosts.md"
COMPLETE_SECONDS = 10

_TINY = """
The embedded model is tiny (135 million parameters): it shows that everything works, not what a model can do.
To use another one, store its key and name it in the agent's file:
  [bold]remit credentials add mine --provider openai --secret-env OPENAI_API_KEY[/]
  [bold]model: {provider: openai, name: gpt-5-mini, credential: mine}[/]"""


async def run_main_job(folder: Path, demo: dict[str, Any]) -> dict[str, Any]:
    """Apply the samples, run them over the document, show each step and explain the run; returns the explanation."""
    async with Edge(Place(demo["edge"], demo["api_keys"][DEFAULT_ROLE])) as edge:
        await _apply_samples(edge)
        run = await patiently(lambda: _start(edge))
        console().print(f"\nReading [bold]{DOCUMENT.relative_to(ROOT)}[/] with the orchestration [bold]{NAME}[/]:\n")
        await watch_run(edge, run, NAME)
        found = await explain_when_complete(edge, run["id"])
    console().print(f"\n[dim]$[/] remit runs explain {run['id']}\n")
    print_explanation(found)
    console().print(_TINY)
    remember(folder, run_id=run["id"])
    if found["run"]["status"] != "completed":
        raise CliError(f"the sample run ended as {found['run']['status']}: {found['run']['error_message']}")
    return found


async def explain_when_complete(edge: Edge, run_id: str) -> dict[str, Any]:
    """Ask for an explanation until audit and billing have heard of the run's end, for a few seconds at most."""
    deadline = asyncio.get_running_loop().time() + COMPLETE_SECONDS
    while True:
        found: dict[str, Any] = await edge.get(f"/v1/runs/{run_id}/explain")
        if _is_complete(found) or asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(0.2)


def _is_complete(found: dict[str, Any]) -> bool:
    end = f"execution.run.{found['run']['status']}.v1"
    entries = found.get("audit_entries") or ()
    return not found.get("pending") and any(entry["event_type"] == end for entry in entries)


async def _apply_samples(edge: Edge) -> None:
    for name in AGENTS:
        body = {"file": (SAMPLES / name).read_text()}
        await patiently(lambda: edge.post("/v1/agents/apply", body))  # noqa: B023 asked before the next turn
    body = {"file": (SAMPLES / ORCHESTRATION).read_text()}
    await patiently(lambda: edge.post("/v1/orchestrations/apply", body))


async def _start(edge: Edge) -> Any:
    body = {"orchestration": NAME, "input": {"text": DOCUMENT.read_text()}, "trigger_type": "cli"}
    return await edge.post("/v1/runs", body)
