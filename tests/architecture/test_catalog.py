from __future__ import annotations

import json
import re

import pytest

from contracts.catalog import COMMANDS, FACTS, REPLIES, SERVICES
from remit_local.dev.golden import SCHEMAS, definition_schemas, differences, message_schemas, orphans

FACT = re.compile(r"(?P<service>[a-z]+)\.(?P<noun>[a-z_]+)\.(?P<what>[a-z_]+)\.v[1-9][0-9]*")
WORK = re.compile(r"[a-z]+\.[a-z_]+\.v[1-9][0-9]*")


@pytest.mark.parametrize("name", sorted({**FACTS, **COMMANDS, **REPLIES}))
def test_each_message_has_its_golden_schema(name: str) -> None:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    assert schema["type"] == "object"
    assert schema["$id"].endswith(f"/{name}.json")


def test_the_golden_schemas_are_those_of_the_code() -> None:
    wanted = message_schemas()
    assert not differences(wanted)
    assert not orphans(wanted)


def test_the_schemas_for_editors_are_those_of_the_code() -> None:
    assert not differences(definition_schemas())


@pytest.mark.parametrize("name", sorted(FACTS))
def test_a_fact_is_named_by_service_noun_and_past_participle(name: str) -> None:
    match = FACT.fullmatch(name)
    assert match
    assert match["service"] in SERVICES


@pytest.mark.parametrize("name", sorted({**COMMANDS, **REPLIES}))
def test_work_is_named_by_service_and_what_to_do(name: str) -> None:
    assert WORK.fullmatch(name)


@pytest.mark.parametrize("name", sorted({**FACTS, **COMMANDS, **REPLIES}))
def test_a_message_says_what_it_is(name: str) -> None:
    kind = {**FACTS, **COMMANDS, **REPLIES}[name]
    assert vars(kind).get("__doc__")
