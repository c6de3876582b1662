"""One API document of several: every service's paths, with names that stay unique."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]
_PREFIX = "#/components/schemas/"
_DESCRIPTION = "Everything a caller can do, through one door. Send `Authorization: Bearer <key>` with each request."


def merge(documents: Mapping[str, Document], version: str, explanation: Document) -> dict[str, Any]:
    """The document of all services; `explanation` is how the edge itself answers `explain`."""
    clashing = _clashing({service: _schemas(document) for service, document in documents.items()})
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for service, document in documents.items():
        names = {name: f"{service.title()}{name}" for name in clashing if name in _schemas(document)}
        paths |= _renamed(document.get("paths", {}), names)
        schemas |= {names.get(name, name): _renamed(schema, names) for name, schema in _schemas(document).items()}
    explain = paths.get("/v1/runs/{run_id}/explain", {}).get("get")
    if explain is not None:
        explain["responses"]["200"] = explanation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Remit", "version": version, "description": _DESCRIPTION},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}],
    }


def _schemas(document: Document) -> dict[str, Any]:
    found: dict[str, Any] = document.get("components", {}).get("schemas", {})
    return found


def _clashing(by_service: Mapping[str, dict[str, Any]]) -> set[str]:
    """Names that mean different things in different services, directly or through what they refer to."""
    shared = {
        name for name, count in Counter(name for each in by_service.values() for name in each).items() if count > 1
    }
    clashing: set[str] = set()
    while True:
        more = {name for name in shared - clashing if _differs(name, by_service, clashing)}
        if not more:
            return clashing
        clashing |= more


def _differs(name: str, by_service: Mapping[str, dict[str, Any]], clashing: set[str]) -> bool:
    forms = [schemas[name] for schemas in by_service.values() if name in schemas]
    return any(form != forms[0] for form in forms) or bool(_references(forms[0]) & clashing)


def _references(node: Any) -> set[str]:
    if isinstance(node, dict):
        found = {node["$ref"].removeprefix(_PREFIX)} if isinstance(node.get("$ref"), str) else set()
        return found.union(*(_references(value) for value in node.values()))
    return set().union(*(_references(each) for each in node)) if isinstance(node, list) else set()


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_renamed(each, names) for each in node]
    if not isinstance(node, dict):
        return node
    renamed = {key: _renamed(value, names) for key, value in node.items()}
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith(_PREFIX):
        name = reference.removeprefix(_PREFIX)
        renamed["$ref"] = _PREFIX + names.get(name, name)
    return renamed
