"""Files made from the code and reviewed as changes of it: schemas of messages and definitions, OpenAPI."""

from __future__ import annotations

import importlib
import json
import sys
from typing import TYPE_CHECKING, Any

from chassis.settings import ServiceSettings
from contracts import catalog
from contracts.envelope import SCHEMA_BASE, Message
from remit_local.dev.workspace import ROOT, standing_services

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMAS = ROOT / "libs" / "contracts" / "schemas"
EDITOR_SCHEMAS = ROOT / "samples" / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
NOWHERE = {
    "REMIT_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
    "REMIT_AMQP_URL": "amqp://nobody@127.0.0.1:1/",
    "REMIT_STREAM_URL": "rabbitmq-stream://nobody@127.0.0.1:1/",
}
"""What a service needs to be put together; nothing connects until it is started."""


def message_schemas(folder: Path = SCHEMAS) -> dict[Path, str]:
    """Give the golden file of each fact, command and reply, by its path."""
    messages = {**catalog.FACTS, **catalog.COMMANDS, **catalog.REPLIES}
    return {folder / f"{name}.json": as_text(_schema(name, kind)) for name, kind in messages.items()}


def _schema(name: str, kind: type[Message]) -> dict[str, Any]:
    return {"$schema": DIALECT, "$id": f"{SCHEMA_BASE}/{name}.json", **kind.model_json_schema()}


def definition_schemas(folder: Path = EDITOR_SCHEMAS) -> dict[Path, str]:
    """Give the schemas by which editors complete and check definition files, by their path."""
    made = importlib.import_module("execution.domain.editor_schemas")
    nouns = {"agent": made.agent_schema(), "orchestration": made.orchestration_schema()}
    return {folder / f"{noun}.schema.json": as_text(schema) for noun, schema in nouns.items()}


def openapi_documents(root: Path = ROOT) -> dict[Path, str]:
    """Give the OpenAPI document of each standing service, by its path."""
    return {
        root / "services" / name / "openapi.json": as_text(service_document(name)) for name in standing_services(root)
    }


def service_document(name: str) -> dict[str, Any]:
    """Put a service together with settings that lead nowhere, and ask it for its document."""
    settings = _settings_class(name).load(name, NOWHERE)
    service = importlib.import_module(f"{name}.main").build(settings)
    document: dict[str, Any] = service.api.openapi()
    return document


def _settings_class(name: str) -> type[ServiceSettings]:
    module = importlib.import_module(f"{name}.settings")
    own = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]
    return next((kind for kind in own if issubclass(kind, ServiceSettings)), ServiceSettings)


def as_text(document: Mapping[str, Any]) -> str:
    """Write a document the one way that makes differences small."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def differences(wanted: Mapping[Path, str]) -> list[str]:
    """Name the files that are missing or say something else."""
    found: list[str] = []
    for path, text in wanted.items():
        if not path.exists():
            found.append(f"{path}: missing")
        elif path.read_text(encoding="utf-8") != text:
            found.append(f"{path}: differs from the code")
    return found


def orphans(wanted: Mapping[Path, str], folder: Path = SCHEMAS) -> list[str]:
    """Name the files in the folder that no message stands behind any more."""
    return [f"{path}: no such message" for path in sorted(folder.glob("*.json")) if path not in wanted]


def write(wanted: Mapping[Path, str]) -> list[Path]:
    """Write the files that differ and give their paths."""
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
    return stale


def keep(wanted: Mapping[Path, str], *, check: bool, again: str, extra: list[str]) -> int:
    """Write what differs, or with `check` only say so and how to repair it."""
    if not check:
        for path in write(wanted):
            sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
        return 0
    wrong = differences(wanted) + extra
    sys.stdout.write("".join(f"{line}\n" for line in wrong) + (f"repair: {again}\n" if wrong else ""))
    return int(bool(wrong))
