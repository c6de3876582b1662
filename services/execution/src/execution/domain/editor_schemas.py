"""JSON Schemas of definition files, for editors: made from the shapes that files are read with.

They say what a file may contain. What its parts say about each other only saving it finds out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue

from execution.domain.agents import AGENT_KINDS
from execution.domain.orchestrations import PATTERNS, AgentReference, OrchestrationReference
from execution.domain.schemas import DRAFT
from execution.domain.shapes import Metadata

_REFERENCES = "#/$defs/{model}"


class _Defaultless(GenerateJsonSchema):
    """Without defaults: they are in the engine's units, not in those of files."""

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        """What the value may be, and nothing of what it is when left out."""
        return self.generate_inner(schema["schema"])


def agent_schema() -> dict[str, Any]:
    """Of a file for `remit agents apply`."""
    return _file("agent", "kind", AGENT_KINDS, {"metadata": Metadata})


def orchestration_schema() -> dict[str, Any]:
    """Of a file for `remit orchestrations apply`."""
    beside = {
        "metadata": Metadata,
        "agents": dict[str, AgentReference],
        "orchestrations": dict[str, OrchestrationReference],
    }
    return _file("orchestration", "pattern", PATTERNS, beside)


def _file(noun: str, by: str, shapes: Mapping[str, type[Any]], beside: Mapping[str, Any]) -> dict[str, Any]:
    adapters: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (name, "validation", TypeAdapter(shape)) for name, shape in (*shapes.items(), *beside.items())
    ]
    made, rest = TypeAdapter.json_schemas(
        adapters, by_alias=True, ref_template=_REFERENCES, schema_generator=_Defaultless
    )
    found, parts = {name: schema for (name, _), schema in made.items()}, rest.get("$defs", {})
    for name in shapes:
        # Each says by its own word which it is; what stands beside the configuration is the same for all.
        whole = parts[found[name]["$ref"].rpartition("/")[2]]
        whole["properties"] |= {key: found[key] for key in beside}
    branches = [{"if": {"properties": {by: {"const": name}}}, "then": found[name]} for name in shapes]
    return {
        "$schema": DRAFT,
        "title": f"Remit {noun}",
        "type": "object",
        "required": ["apiVersion", by],
        "properties": {by: {"enum": list(shapes)}, "apiVersion": {"const": f"{noun}/v1"}},
        "allOf": branches,
        "$defs": parts,
    }
