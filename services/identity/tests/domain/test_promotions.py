from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import InvalidError
from identity.domain.promotions import require_no_cycle

PLACES = [UUID(int=number) for number in range(1, 8)]


def circles(sources: dict[UUID, UUID | None]) -> bool:
    """Walked the long way: somebody who goes on for more steps than there are places is going round."""
    for start in sources:
        at: UUID | None = start
        for _ in range(len(sources) + 1):
            at = sources.get(at) if at else None
        if at is not None:
            return True
    return False


def test_a_chain_is_fine_and_its_closing_is_not() -> None:
    first, second, third, *_ = PLACES
    sources = {first: None, second: first, third: second}
    require_no_cycle(third, second, sources)
    with pytest.raises(InvalidError) as refused:
        require_no_cycle(first, third, sources)
    assert refused.value.code == "promotion_cycle"
    with pytest.raises(InvalidError):
        require_no_cycle(first, first, sources)


@given(st.lists(st.tuples(st.sampled_from(PLACES), st.one_of(st.none(), st.sampled_from(PLACES))), max_size=30))
def test_no_order_of_changes_makes_a_circle(changes: list[tuple[UUID, UUID | None]]) -> None:
    sources: dict[UUID, UUID | None] = dict.fromkeys(PLACES)
    for place, source in changes:
        wanted = {**sources, place: source}
        try:
            require_no_cycle(place, source, wanted)
        except InvalidError:
            assert circles(wanted)
            continue
        sources = wanted
        assert not circles(sources)
