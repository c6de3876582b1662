"""Reading definitions: YAML text in, a checked definition or every problem with its line and column out.

A file may carry `metadata` (an orchestration's also `agents` and `orchestrations`) beside the configuration. The
configuration is what is stored, run and hashed; metadata is not part of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from execution.domain.agent_references import agent_problems
from execution.domain.agents import (
    AGENT_KINDS,
    LATER_AGENT_KINDS,
    LATER_AGENT_PARTS,
    AgentSpec,
)
from execution.domain.documents import Document, Json, Path, parse_document
from execution.domain.orchestration_references import orchestration_problems
from execution.domain.orchestrations import (
    LATER_ORCHESTRATION_PARTS,
    PATTERNS,
    AgentReference,
    OrchestrationReference,
    OrchestrationSpec,
)
from execution.domain.problems import NOT_SUPPORTED_YET, DefinitionError, Problem
from execution.domain.schemas import schema_problems
from execution.domain.shapes import Metadata, is_given
from execution.domain.versions import digest_of

Spec = TypeVar("Spec")
AnyShape = TypeVar("AnyShape", bound=BaseModel)

MAX_ALIASES = 200
_CODES = {"extra_forbidden": "unknown_key", "missing": "missing_key", NOT_SUPPORTED_YET: NOT_SUPPORTED_YET}


@dataclass(frozen=True, slots=True)
class Definition(Generic[Spec]):
    """A valid definition: `config` is what is stored and hashed, `spec` the same, typed."""

    config: Mapping[str, Json]
    spec: Spec
    digest: str
    metadata: Metadata | None
    references: Mapping[str, AgentReference]
    """What the aliases of an applied orchestration stand for; empty when the file does not say."""


def parse_agent(text: str) -> Definition[AgentSpec]:
    """Read an agent's `config_yaml`, with or without `metadata`, or raise DefinitionError with every problem."""
    reading = _Reading(parse_document(text))
    reading.take_metadata()
    spec: AgentSpec | None = reading.shape("kind", AGENT_KINDS, LATER_AGENT_KINDS, LATER_AGENT_PARTS)
    reading.check_schemas()
    if spec is not None:
        reading.note(agent_problems(spec))
    return reading.definition(spec, {})


def parse_orchestration(
    text: str, *, aliases: Collection[str] | None = None, orchestrations: Collection[str] = ()
) -> Definition[OrchestrationSpec]:
    """Read an orchestration's `config_yaml`, or raise DefinitionError with every problem.

    `aliases` and `orchestrations` are the keys of its `agent_ids` that stand for agents and for orchestrations; every
    alias used must be among them or in the file's own `agents` and `orchestrations`. With none of these, aliases are
    not checked.
    """
    reading = _Reading(parse_document(text))
    reading.take_metadata()
    agents = reading.take_references("agents", AgentReference)
    children = reading.take_references("orchestrations", OrchestrationReference)
    for alias in {*(agents or ()), *(aliases or ())} & {*(children or ()), *orchestrations}:
        reading.note([(("orchestrations", alias), "duplicate_id", f"the alias {alias!r} stands for an agent already")])
    spec: OrchestrationSpec | None = reading.shape("pattern", PATTERNS, (), LATER_ORCHESTRATION_PARTS)
    reading.check_schemas()
    if spec is not None:
        if aliases is None and agents is None and children is None:
            reading.note(orchestration_problems(spec, None, None))
        else:
            known = {*(aliases or ()), *(agents or ())}, {*orchestrations, *(children or ())}
            reading.note(orchestration_problems(spec, *known))
    return reading.definition(spec, {**(agents or {}), **(children or {})})


def agent_of(config: Mapping[str, Json]) -> AgentSpec:
    """The typed form of a stored agent configuration."""
    return AGENT_KINDS[config["kind"]].model_validate(_without_later(config, LATER_AGENT_PARTS))


def orchestration_of(config: Mapping[str, Json]) -> OrchestrationSpec:
    """The typed form of a stored orchestration configuration."""
    return PATTERNS[config["pattern"]].model_validate(_without_later(config, LATER_ORCHESTRATION_PARTS))


class _Reading:
    """One document on its way to a definition; gathers problems instead of stopping at the first."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._problems: list[Problem] = []
        if not isinstance(document.value, dict):
            raise DefinitionError([document.problem((), "invalid_value", "A definition is a mapping of keys")])
        self._config: dict[str, Json] = dict(document.value)
        self._metadata: Metadata | None = None

    def take_metadata(self) -> None:
        """Split `metadata` from the configuration."""
        if "metadata" in self._config:
            self._metadata = self._validated(Metadata, self._config.pop("metadata"), ("metadata",))

    def take_references(self, key: str, shape: type[AnyShape]) -> dict[str, AnyShape] | None:
        """Split `agents` or `orchestrations` from an orchestration's configuration."""
        if key not in self._config:
            return None
        found = self._config.pop(key)
        if not isinstance(found, dict) or len(found) > MAX_ALIASES:
            self._note((key,), "invalid_value", f"{key} maps at most {MAX_ALIASES} aliases to {key}")
            return None
        references = {alias: self._validated(shape, value, (key, alias)) for alias, value in found.items()}
        return {alias: reference for alias, reference in references.items() if reference is not None}

    def shape(
        self,
        key: str,
        shapes: Mapping[str, type[Any]],
        later: Collection[str],
        later_parts: Iterable[tuple[str, ...]],
    ) -> Any:
        """The configuration in the shape its kind or pattern asks for, or None when there is a problem."""
        parts = tuple(later_parts)
        for path in parts:
            if is_given(self._config, path):
                self._note(path, NOT_SUPPORTED_YET, f"{'.'.join(path)} is not supported yet", at_key=True)
        wanted = self._config.get(key)
        if isinstance(wanted, str) and wanted in shapes:
            return self._validated(shapes[wanted], _without_later(self._config, parts), ())
        if isinstance(wanted, str) and wanted in later:
            self._note((key,), NOT_SUPPORTED_YET, f"{key}: {wanted} is not supported yet")
        elif key in self._config:
            self._note((key,), "invalid_value", f"{key} is one of: {', '.join(shapes)}")
        else:
            self._note((key,), "missing_key", f"{key} is missing")
        return None

    def check_schemas(self) -> None:
        """Refuse schemas that are none."""
        for key in ("input_schema", "output_schema"):
            if isinstance(schema := self._config.get(key), dict):
                for problem in schema_problems(schema):
                    self._note((key, *problem.path), "invalid_schema", problem.message)

    def note(self, problems: Iterable[tuple[Path, str, str]]) -> None:
        """Keep problems found by rules about the whole."""
        for path, code, message in problems:
            self._note(path, code, message)

    def definition(self, spec: Any, references: Mapping[str, AgentReference]) -> Definition[Any]:
        """The definition, if there is no problem."""
        if self._problems:
            raise DefinitionError(self._problems)
        return Definition(self._config, spec, digest_of(self._config), self._metadata, references)

    def _validated(self, shape: type[AnyShape], value: Json, at: Path) -> AnyShape | None:
        try:
            return shape.model_validate(value)
        except ValidationError as error:
            for found in error.errors(include_url=False, include_context=False, include_input=False):
                kind, message = found["type"], found["msg"].removeprefix("Value error, ")
                path, code = (*at, *found["loc"]), _CODES.get(kind, "invalid_value")
                self._note(path, code, message, at_key=code == "unknown_key")
            return None

    def _note(self, path: Path, code: str, message: str, *, at_key: bool = False) -> None:
        self._problems.append(self._document.problem(path, code, message, at_key=at_key))


def _without_later(config: Mapping[str, Json], parts: Iterable[tuple[str, ...]]) -> dict[str, Json]:
    """The configuration without the parts that shapes do not know yet."""
    kept = dict(config)
    for path in parts:
        if len(path) == 1:
            kept.pop(path[0], None)
        elif isinstance(inner := kept.get(path[0]), dict):
            kept[path[0]] = {key: value for key, value in inner.items() if key != path[1]}
    return kept
