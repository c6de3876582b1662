from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID

import pytest
from pydantic import ValidationError

from contracts.catalog import COMMANDS, FACTS, SERVICES
from contracts.envelope import MAX_FACT_BYTES, Envelope, wrap
from contracts.execution import RunCancelRequested

RUN, WORKSPACE, ORGANIZATION, FACT = (UUID(int=n) for n in range(1, 5))


def wrapped(reason: str = "enough") -> bytes:
    return wrap(
        RunCancelRequested(run_id=RUN, workspace_id=WORKSPACE, reason=reason),
        fact_id=FACT,
        source="execution",
        time=datetime(2026, 11, 22, tzinfo=UTC),
        organization_id=ORGANIZATION,
        actor_type="api_key",
        actor_id="k1",
        traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        causation_id="c",
    )


def test_a_fact_comes_back_as_it_was_sent() -> None:
    envelope = Envelope.parse(wrapped())
    assert (envelope.id, envelope.organization_id, envelope.workspace_id) == (FACT, ORGANIZATION, WORKSPACE)
    assert envelope.subject == f"run/{RUN}"
    assert envelope.actor.type == "api_key"
    assert envelope.event_key == f"execution.run.cancel_requested:{FACT}"
    fact = FACTS[envelope.type].model_validate(envelope.data)
    assert fact == RunCancelRequested(run_id=RUN, workspace_id=WORKSPACE, reason="enough")


def test_the_same_fact_gives_the_same_bytes() -> None:
    assert wrapped() == wrapped()


def test_a_fact_above_the_limit_is_refused_by_its_producer() -> None:
    with pytest.raises(ValueError, match="above the limit"):
        wrapped("x" * MAX_FACT_BYTES)


@pytest.mark.parametrize("kind", sorted(FACTS))
def test_a_fact_is_named_for_its_service_noun_and_what_happened(kind: str) -> None:
    service, noun, happened, version = kind.split(".")
    cls = FACTS[kind]
    assert service in SERVICES
    assert version.startswith("v")
    assert cls.noun() == noun
    assert happened
    assert cls.subject_field in cls.model_fields
    assert cls.__doc__


def test_commands_are_in_the_catalog() -> None:
    assert {"chassis.resend_facts.v1", "chassis.restate_rows.v1"} <= set(COMMANDS)


def test_a_fact_of_a_row_says_what_the_row_says() -> None:
    row = SimpleNamespace(id=RUN, workspace_id=WORKSPACE, reason=None, unrelated=1)
    assert RunCancelRequested.of(row) == RunCancelRequested(run_id=RUN, workspace_id=WORKSPACE)
    assert RunCancelRequested.of(row, reason="enough").reason == "enough"
    del row.workspace_id
    with pytest.raises(ValidationError):
        RunCancelRequested.of(row)
