"""Revisions: a definition's text in every form in which it is kept and run, and the number it gets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from chassis.errors import ConflictError, InvalidError
from execution.domain.compiler import compile_agent, compile_orchestration
from execution.domain.definitions import Definition, agent_of, parse_agent, parse_orchestration
from execution.domain.documents import Json
from execution.domain.graph import Graph
from execution.domain.orchestrations import AgentReference
from execution.domain.scans import results_of, scan_agent, status_of
from execution.domain.shapes import Metadata
from execution.domain.versions import is_higher, is_version, next_version

CURRENT = "current"
"""The word for whichever revision runs when nobody names another."""
ORCHESTRATION = "orchestration"


def is_orchestration(reference: Mapping[str, str]) -> bool:
    """Whether an alias of `agent_ids` stands for an orchestration: `{id, version, kind: orchestration}`."""
    return reference.get("kind") == ORCHESTRATION


@dataclass(frozen=True, slots=True)
class Revision:
    """A checked definition, ready to be saved."""

    text: str
    kind: str
    """An agent's kind, or an orchestration's pattern."""
    config: dict[str, Json]
    """The canonical configuration: what the digest is taken of."""
    digest: str
    graph: dict[str, Any]
    metadata: Metadata | None
    """Who the definition says it is; None where it does not."""
    references: Mapping[str, AgentReference]
    """What an orchestration's own text says its aliases stand for."""

    def scan(self, known_hosts: Collection[str]) -> dict[str, Any]:
        """The security scan of an agent's, as the columns that hold it."""
        findings = scan_agent(self.config, agent_of(self.config), known_hosts)
        return {"security_scan_status": status_of(findings), "security_scan_results": results_of(findings)}

    def first_number(self) -> str:
        """Its number where none came before."""
        return next_version(None, self.own_number)

    def number_after(self, highest: str) -> str:
        """Its number after `highest`: its own where that is above it, else the next patch."""
        return next_version(highest, self.own_number)

    @property
    def own_number(self) -> str | None:
        """The number its metadata ask for."""
        return self.metadata.version if self.metadata else None

    def require_metadata(self) -> Metadata:
        """What it says of itself; InvalidError when it does not say what it is about."""
        if self.metadata is None:
            raise InvalidError("A file that is applied needs metadata with a name.", code="metadata_required")
        if self.metadata.team is not None:
            raise InvalidError("metadata.team is not supported yet: set team_id instead.", code="not_supported_yet")
        return self.metadata


class Standing(NamedTuple):
    """Which version of a definition is current, and how that came."""

    current: str
    previous: str | None = None
    """The one that was current before; None for the first."""
    rolled_back_from: str | None = None
    """Set while the current one is there because another was taken back."""

    def moved(self, to: str) -> Self:
        """After another version was made current in the ordinary way."""
        return self if to == self.current else type(self)(to, self.current)

    def rolled_back(self, to: str | None) -> Self:
        """After a rollback to this version, or to the one before; itself where it stands there already.

        A rollback without a target is not repeated by asking again: whoever wants to go further back names the version.
        ConflictError `no_earlier_version` where nothing was current before.
        """
        if to is None and self.rolled_back_from is not None:
            return self
        wanted = to or self.previous
        if wanted is None:
            raise ConflictError("No other version was current before this one.", code="no_earlier_version")
        return self if wanted == self.current else type(self)(wanted, self.current, self.current)


def read_agent(text: str) -> Revision:
    """Read an agent's text; DefinitionError (422) with every problem, its line and column."""
    definition = parse_agent(text)
    return _revision(text, definition, definition.spec.kind, compile_agent(definition))


def read_orchestration(text: str, given: Mapping[str, Mapping[str, str]] | None = None) -> Revision:
    """Read an orchestration's text whose aliases are `given`, or in it; DefinitionError with every problem.

    Where neither says what an alias stands for, aliases are not checked.
    """
    if given is None:
        definition = parse_orchestration(text)
        return _revision(text, definition, definition.spec.pattern, compile_orchestration(definition))
    orchestrations = [alias for alias, reference in given.items() if is_orchestration(reference)]
    agents = given.keys() - set(orchestrations)
    definition = parse_orchestration(text, aliases=agents, orchestrations=orchestrations)
    return _revision(text, definition, definition.spec.pattern, compile_orchestration(definition))


def wanted_number(highest: str, wanted: str | None) -> str:
    """The number a caller asks for, which is above the highest there is; without one, the next patch.

    InvalidError for what is no semantic version, ConflictError for one that is not above the highest.
    """
    if wanted is None:
        return next_version(highest)
    if not is_version(wanted):
        raise InvalidError(f"{wanted!r:.80} is no semantic version.", code="invalid_version")
    if not is_higher(wanted, highest):
        raise ConflictError(f"The version must be above {highest}.", code="version_not_higher")
    return wanted


def _revision(text: str, definition: Definition[Any], kind: str, graph: Graph) -> Revision:
    return Revision(
        text=text,
        kind=kind,
        config=dict(definition.config),
        digest=definition.digest,
        graph=graph.to_json(),
        metadata=definition.metadata,
        references=definition.references,
    )
