"""Tools that somebody's server has, by the Model Context Protocol over HTTP."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from execution.domain.endpoints import Url
from execution.domain.model_choices import KeyUse
from execution.domain.shapes import Name, Shape

MCP_PROVIDER = "mcp"
"""Under which the keys of such servers are stored."""

ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_./-]{1,128}$")]


class McpServer(Shape):
    """Where a server of tools answers; `credential` names the stored key, which is sent as a bearer token."""

    url: Url
    credential: Name | None = None

    @property
    def keys(self) -> tuple[KeyUse, ...]:
        """The stored key it names, if it does."""
        return (KeyUse(self.credential, MCP_PROVIDER, self.url),) if self.credential is not None else ()
