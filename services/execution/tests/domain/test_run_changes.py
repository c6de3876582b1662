from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from execution.domain.run_changes import Place, place_of, tells_change

NUMBERS = st.integers(min_value=0, max_value=10**17)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_a_place_comes_back_as_it_was_given(at_ms: int, epoch: int, number: int) -> None:
    place = Place(at_ms, epoch, number)
    assert place_of(str(place)) == place


@given(st.text(max_size=60))
def test_what_is_no_id_is_no_place(text: str) -> None:
    place = place_of(text)
    assert place is None or place_of(str(place)) == place


def test_steps_tell_of_their_run_only_where_somebody_waited() -> None:
    kind = "execution.step.completed.v1"
    by_engine, alone = b'{"actor":{"id":"execution.engine"},', b'{"actor":{"id":"execution.detached"},'
    for call in (b'"data":{"kind":"agent"}}', b'"data":{"kind":"tool"}}'):
        assert not tells_change(kind, by_engine + call)
        assert tells_change(kind, alone + call)
    assert not tells_change(kind, b'{"actor":{"id":"0192"},"data":{"kind":"agent"}}')
    assert tells_change(kind, b'{"data":{"kind":"signal"}}')
    assert tells_change("execution.run.failed.v1", b"{}")
    assert not tells_change("execution.agent.created.v1", b"{}")
