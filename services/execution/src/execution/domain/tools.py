"""Tools that somebody's server has, by the Model Context Protocol over HTTP."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from execution.domain.endpoints import Url
from execution.domain.model_choices import KeyUse
from execution.domain.nodes import Effects
from execution.domain.problems import NOT_SUPPORTED_YET
from execution.domain.shapes import Name, Shape

MCP_PROVIDER = "mcp"
"""Under which the keys of such servers are stored."""

MAX_SOURCES = 10
MAX_TOOLS = 30
"""From one server; models choose badly among many."""
_UNNAMEABLE = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 64

ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_./-]{1,128}$")]
EffectsName: TypeAlias = Literal["read", "idempotent", "write"]


class McpServer(Shape):
    """Where a server of tools answers; `credential` names the stored key, which is sent as a bearer token."""

    url: Url
    credential: Name | None = None

    @property
    def keys(self) -> tuple[KeyUse, ...]:
        """The stored key it names, if it does."""
        return (KeyUse(self.credential, MCP_PROVIDER, self.url),) if self.credential is not None else ()


class ToolSource(Shape):
    """Tools of one server that a model may call; `effects` says what a repeated call of any of them does."""

    mcp: McpServer
    tools: Annotated[list[ToolName], Field(min_length=1, max_length=MAX_TOOLS)]
    effects_name: Annotated[EffectsName, Field(alias="effects")] = "write"

    @property
    def effects(self) -> Effects:
        """What a repeated call of one of them does to the world."""
        return Effects(self.effects_name)

    @model_validator(mode="before")
    @classmethod
    def _of_this_time(cls, value: Any) -> Any:
        if isinstance(value, dict) and "connector" in value:
            raise PydanticCustomError(NOT_SUPPORTED_YET, "tools of connectors are not supported yet")
        if isinstance(value, dict) and isinstance(value.get("mcp"), str):
            raise PydanticCustomError(NOT_SUPPORTED_YET, "servers by name are not supported yet: mcp: {url: ...}")
        return value


def name_for_models(tool: str) -> str:
    """What models call the tool: providers take fewer characters than servers do."""
    return _UNNAMEABLE.sub("_", tool)[:_LONGEST_NAME]


def gravest(effects: list[Effects]) -> Effects:
    """The effect that decides whether all of it may be repeated."""
    order = list(Effects)
    return max(effects, key=order.index, default=Effects.READ)
