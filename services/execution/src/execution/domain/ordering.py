"""An order in which nothing comes before what it follows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter

from execution.domain.nodes import GraphError


def in_order(names: Sequence[str], edges: Iterable[tuple[str, str]]) -> list[str]:
    """The names so that each comes after all that lead to it, else as they were; GraphError where that is a circle."""
    sorter: TopologicalSorter[str] = TopologicalSorter({name: [] for name in names})
    for source, target in edges:
        sorter.add(target, source)
    try:
        sorter.prepare()
    except CycleError as error:
        raise GraphError(f"the edges go in a circle: {' -> '.join(reversed(error.args[1]))}") from None
    place = {name: number for number, name in enumerate(names)}
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda name: place.get(name, 0))
        order += ready
        sorter.done(*ready)
    return order
