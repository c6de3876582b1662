"""What a run follows and calls: pinned versions, which never change, decoded once per process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import orjson

from chassis.sealing import Keyring, UnsealError
from execution.domain.agents import AgentSpec, LlmAgent
from execution.domain.compiler import SELF_ALIAS
from execution.domain.definitions import agent_of, orchestration_of
from execution.domain.documents import Json
from execution.domain.graph import Graph
from execution.domain.model_choices import KeyUse, OneModel, may_receive
from execution.domain.nodes import AgentNode, CallNode, ToolNode
from execution.domain.retries import RetryPolicy
from execution.domain.runs import Limits
from execution.domain.shapes import policy_of
from execution.usecases.engine_rows import ClaimedRun, Rows, plain
from execution.usecases.model_credentials import open_credential

KEPT = 1_024
_AGENT = "select id, agent_id, semver, config, graph from agent_version where organization_id = $1 and id = $2"
_ORCHESTRATION = "select graph, config from orchestration_version where organization_id = $1 and id = $2"
_CREDENTIAL = """select id, organization_id, provider, base_url, ciphertext, wrapped_key, kek_id from model_credential
where organization_id = $1 and name = $2"""
Key = TypeVar("Key")
Kept = TypeVar("Kept")


class DefinitionGoneError(Exception):
    """What the run pinned is not there."""


class CredentialError(Exception):
    """The provider key that a definition names cannot be had; the message says why."""


@dataclass(frozen=True, slots=True)
class AgentVersion:
    """A pinned revision of an agent."""

    id: UUID
    agent_id: UUID
    semver: str
    config: Mapping[str, Json]
    spec: AgentSpec
    retry: RetryPolicy | None
    limits: Limits
    graph: Graph
    max_output_tokens: int
    """What one call of a model of it may answer at most; 0 for agents without one."""

    @property
    def models(self) -> tuple[OneModel, ...]:
        """The models it asks, in turn; none for agents without."""
        return self.spec.model.in_turn if isinstance(self.spec, LlmAgent) else ()


class UnknownToolError(Exception):
    """The agent's version lends no such tool; the message says which."""


class ChildVersion(NamedTuple):
    """A pinned revision of an orchestration that runs as a child."""

    orchestration_id: str
    semver: str
    limits: Limits
    most_steps: int


class _Orchestration(NamedTuple):
    graph: Graph
    limits: Limits


class Definitions:
    """Looks up versions by the organization and the version's id; the newest thousand are kept."""

    def __init__(self, rows: Rows, keyring: Keyring | None) -> None:
        self._rows, self._keyring = rows, keyring
        self._orchestrations: OrderedDict[tuple[UUID, UUID], _Orchestration] = OrderedDict()
        self._agents: OrderedDict[tuple[UUID, UUID], AgentVersion] = OrderedDict()
        self._tools: OrderedDict[tuple[UUID, UUID, str], AgentVersion] = OrderedDict()

    async def graph_of(self, run: ClaimedRun) -> Graph:
        """The graph the run follows; DefinitionGoneError when its version is not there."""
        if run.execution_type == "agent":
            return (await self._agent(run.organization_id, run.version_id)).graph
        return (await self._orchestration(run.organization_id, run.version_id)).graph

    async def agent_of(self, run: ClaimedRun, alias: str) -> AgentVersion:
        """The revision an alias stands for in this run; DefinitionGoneError when it is not there."""
        if alias == SELF_ALIAS and run.execution_type == "agent":
            return await self._agent(run.organization_id, run.version_id)
        pin = run.pins.get(alias)
        if pin is None:
            raise DefinitionGoneError
        return await self._agent(run.organization_id, UUID(pin["version_id"]))

    async def called_by(self, run: ClaimedRun, node: CallNode) -> AgentVersion:
        """What a step of this run calls; DefinitionGoneError or UnknownToolError when it is not there."""
        agent = await self.agent_of(run, node.agent)
        return agent if isinstance(node, AgentNode) else self._tool(run.organization_id, agent, node)

    async def child_of(self, run: ClaimedRun, alias: str) -> ChildVersion:
        """The orchestration an alias stands for in this run; DefinitionGoneError when it is not there."""
        pin = run.pins.get(alias)
        if pin is None or "orchestration_id" not in pin:
            raise DefinitionGoneError
        found = await self._orchestration(run.organization_id, UUID(pin["version_id"]))
        return ChildVersion(pin["orchestration_id"], pin["semver"], found.limits, found.graph.most_steps)

    async def credentials_of(self, organization_id: UUID, spec: AgentSpec) -> dict[str, str]:
        """The keys that the agent names, opened; never kept. CredentialError when one cannot be had."""
        return {use.name: await self._key(organization_id, use) for use in spec.keys}

    async def _key(self, organization_id: UUID, use: KeyUse) -> str:
        row = await self._rows.fetch_one(organization_id, _CREDENTIAL, organization_id, use.name)
        if row is None or self._keyring is None:
            raise CredentialError(f"There is no model credential {use.name!r} here.")
        if not may_receive(use, row["provider"], row["base_url"]):
            raise CredentialError(f"The model credential {use.name!r} is not for this provider and address.")
        try:
            return open_credential(self._keyring, dict(row))
        except UnsealError as error:
            raise CredentialError(f"The model credential {use.name!r} cannot be opened.") from error

    async def _orchestration(self, organization_id: UUID, version_id: UUID) -> _Orchestration:
        key = organization_id, version_id
        found = self._orchestrations.get(key)
        if found is None:
            row = await self._rows.fetch_one(organization_id, _ORCHESTRATION, *key)
            if row is None:
                raise DefinitionGoneError
            limits = orchestration_of(orjson.loads(row["config"])).limits.limits()
            found = _Orchestration(Graph.from_json(orjson.loads(row["graph"])), limits)
            _keep(self._orchestrations, key, found)
        return found

    def _tool(self, organization_id: UUID, agent: AgentVersion, node: ToolNode) -> AgentVersion:
        """The agent's version as one that is nothing but this tool of it."""
        key = organization_id, agent.id, node.tool
        found = self._tools.get(key)
        if found is None:
            spec = agent.spec.tool_named(node.tool)
            if spec is None:
                raise UnknownToolError(f"Version {agent.semver} of {node.agent!r} lends no tool {node.tool!r}.")
            found = replace(agent, spec=spec, max_output_tokens=0)
            _keep(self._tools, key, found)
        return found

    async def _agent(self, organization_id: UUID, version_id: UUID) -> AgentVersion:
        key = organization_id, version_id
        version = self._agents.get(key)
        if version is None:
            row = await self._rows.fetch_one(organization_id, _AGENT, organization_id, version_id)
            if row is None:
                raise DefinitionGoneError
            config: dict[str, Any] = orjson.loads(row["config"])
            spec = agent_of(config)
            version = AgentVersion(
                plain(row["id"]), plain(row["agent_id"]), row["semver"], config, spec, policy_of(spec.retry),
                spec.limits.limits(), Graph.from_json(orjson.loads(row["graph"])),
                max(each.max_output_tokens for each in spec.model.in_turn) if isinstance(spec, LlmAgent) else 0,
            )  # fmt: skip
            _keep(self._agents, key, version)
        return version


def _keep(kept: OrderedDict[Key, Kept], key: Key, value: Kept) -> None:
    kept[key] = value
    if len(kept) > KEPT:
        kept.popitem(last=False)
