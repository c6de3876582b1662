"""Definitions as people write them, and what tests make of them."""

from __future__ import annotations

from datetime import date
from typing import Any

from services.execution.tests.stage import Place, Stage

from execution.tables.agents import Agent
from execution.usecases import agents
from spine.testing.databases import Database

WRITER = """
apiVersion: agent/v1
kind: llm
model: {provider: embedded, max_output_tokens: 40}
instructions: "Write one sentence about ${input.topic}."
input_schema:
  type: object
  properties: {topic: {type: string, maxLength: 200}}
  required: [topic]
limits: {max_cost_usd: "0.05", max_tokens: 2000, timeout: 60s}
"""

EVALUATED = (
    WRITER
    + """evals:
  - {name: says something, input: {topic: rivers}, expect: 'size(output.text) > 0'}
  - {name: says it of the topic, input: {topic: lakes}, expect: 'output.text.contains(input.topic)'}
"""
)

HTTP = """
apiVersion: agent/v1
kind: http
http: {url: "https://agents.example.com/step", timeout: 10s}
"""

PAIR = """
apiVersion: orchestration/v1
pattern: sequential
limits: {max_steps: 5, timeout: 5m, max_cost_usd: "1.00"}
flow: {priority: 3}
steps:
  - {id: draft, agent: writer, in: {topic: "${input.topic}"}}
  - {id: edit, agent: editor, in: {topic: "${steps.draft.output.text}"}}
"""


async def make_agent(
    stage: Stage, place: Place, name: str = "writer", config_yaml: str = WRITER, **fields: Any
) -> Agent:
    async with stage.units.begin(place.caller()) as uow:
        return await agents.create_agent(
            uow, config_yaml=config_yaml, workspace=place.workspace_id, name=name, fields=fields
        )


def agent_file(name: str, config_yaml: str = WRITER, **metadata: str) -> str:
    lines = "".join(f"  {key}: {value}\n" for key, value in {"name": name, **metadata}.items())
    return f"metadata:\n{lines}{config_yaml}"


def ids(**agents_by_alias: Agent) -> dict[str, dict[str, str]]:
    return {alias: {"id": str(agent.id), "version": "current"} for alias, agent in agents_by_alias.items()}


async def make_month(database: Database, month: date, kept: int = 30) -> None:
    """Partitions for runs and steps of this month that are kept so many days, as if they had been made in their time."""
    first = f"timestamptz '{month:%Y-%m}-01 00:00+00'"
    following = f"({first} at time zone 'utc' + interval '1 month') at time zone 'utc'"
    for parent in ("run", "step"):
        leaf = f"{parent}_{kept}_{month:%Y%m}"
        await database.sql(
            f"""do $$ begin execute format('create table {leaf} partition of {parent}_{kept}
            for values from (%L) to (%L)', first_id_at({first}), first_id_at({following})); end $$"""
        )
        await database.sql(f"alter table {leaf} owner to remit_execution_owner")
