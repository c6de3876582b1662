from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.execution.tests.factories import PAIR, WRITER

from chassis.errors import InvalidError
from chassis.ids import new_id
from execution.domain.definitions import parse_agent, parse_orchestration
from execution.domain.flows import MICROS, Concurrency, Flow, Groups, Rate, groups_of, shown_key
from execution.domain.problems import DefinitionError

RATES = st.builds(Rate, limit=st.integers(1, 40), seconds=st.integers(1, 60), burst=st.integers(1, 10))


def starts_of(rate: Rate, gaps: list[int]) -> list[int]:
    """When those who ask after these pauses are let in."""
    now = arrival = 0
    started = []
    for gap in gaps:
        now += gap
        if rate.pace.opens_at(arrival, now) <= now:
            arrival = rate.pace.after_start(arrival, now)
            started.append(now)
    return started


@given(RATES, st.lists(st.integers(0, 3 * MICROS), max_size=200))
def test_no_window_sees_more_starts_than_the_limit_and_the_burst(rate: Rate, gaps: list[int]) -> None:
    started, window = starts_of(rate, gaps), rate.seconds * MICROS
    for first in started:
        inside = sum(1 for each in started if first <= each < first + window)
        assert inside <= rate.limit + rate.burst - 1


@given(RATES, st.integers(1, 100))
def test_who_asks_when_it_opens_is_let_in_at_the_full_rate(rate: Rate, count: int) -> None:
    now, arrival = 0, 0
    for _ in range(count):
        now = max(now, rate.pace.opens_at(arrival, now))
        arrival = rate.pace.after_start(arrival, now)
    assert now == max(0, count - rate.burst) * rate.pace.spacing


@given(RATES, RATES, st.integers(0, 10**9))
def test_a_new_rate_binds_no_longer_than_it_would_by_itself(old: Rate, new: Rate, now: int) -> None:
    arrival = 0
    for _ in range(old.burst):
        arrival = old.pace.after_start(arrival, now)
    assert new.pace.opens_at(arrival, now) <= now + new.pace.spacing


def test_groups_are_of_one_definition_and_one_key() -> None:
    one, other = new_id(), new_id()
    flow = Flow(concurrency=Concurrency(limit=2, key="input.customer"), rate=Rate(limit=1, seconds=60))
    same = groups_of(flow, one, {"customer": "a", "x": 1})
    assert same == groups_of(flow, one, {"x": 2, "customer": "a"})
    assert None not in same
    assert same.flow != groups_of(flow, one, {"customer": "b"}).flow
    assert same.pace == groups_of(flow, one, {"customer": "b"}).pace
    assert not {*same} & {*groups_of(flow, other, {"customer": "a"})}
    assert len({*same}) == 2
    assert groups_of(Flow(), one, {"customer": "a"}) == Groups(None, None)
    with pytest.raises(InvalidError) as refused:
        groups_of(flow, one, {})
    assert refused.value.code == "no_flow_key"


def test_keys_are_shown_as_text_of_a_bounded_length() -> None:
    assert [shown_key("acme"), shown_key(7), shown_key({"a": [1]})] == ["acme", "7", '{"a":[1]}']
    assert len(shown_key("x" * 5000)) == 200


@pytest.mark.parametrize(
    ("flow", "problem"),
    [
        ("{concurrency: {limit: 0}}", ("flow.concurrency.limit", "invalid_value")),
        ("{concurrency: {}}", ("flow.concurrency.limit", "missing_key")),
        ("{concurrency: {limit: 1, key: input.nothing}}", ("flow.concurrency.key", "unknown_reference")),
        ("{concurrency: {limit: 1, key: steps.draft}}", ("flow.concurrency.key", "invalid_expression")),
        ("{rate: {limit: 1}}", ("flow.rate.seconds", "missing_key")),
        ("{rate: {limit: 1, seconds: 60, key: 'input.topic +'}}", ("flow.rate.key", "invalid_expression")),
        ("{rate: {limit: 1, seconds: 60, per: 2}}", ("flow.rate.per", "unknown_key")),
    ],
)
def test_flows_are_checked_when_saved(flow: str, problem: Any) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse_agent(f"{WRITER}flow: {flow}\n")
    assert [(each.path, each.code) for each in refused.value.problems] == [problem]


def test_agents_and_orchestrations_say_how_they_are_let_in() -> None:
    told = "{concurrency: {limit: 2, key: input.topic}, rate: {limit: 5, seconds: 60, burst: 2}, priority: 3}"
    agent = parse_agent(f"{WRITER}flow: {told}\n").spec.flow
    orchestration = parse_orchestration(PAIR.replace("{priority: 3}", told)).spec.flow
    assert agent == orchestration
    assert (agent.priority, agent.concurrency, agent.rate) == (
        3,
        Concurrency(limit=2, key="input.topic"),
        Rate(limit=5, seconds=60, burst=2),
    )
