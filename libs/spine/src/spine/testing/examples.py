"""Examples of a service's requests: what the coverage suites send where a bare route says too little."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chassis.caller import Caller

if TYPE_CHECKING:
    from spine.testing.stage import Stage


@dataclass(frozen=True)
class Call:
    """One request that would be done: the ids in its path, and what goes with it."""

    path: Mapping[str, object] = field(default_factory=dict)
    """The route's path parameters; the things they name exist in the caller's organization."""
    body: Any = None
    query: Mapping[str, str | int | bool] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


Example = Callable[["Stage", Caller], Awaitable[Call]]
"""Makes what a request needs in the caller's organization, and returns the request."""


class Examples:
    """A service's examples by use case: one for each route that changes something or names something."""

    def __init__(self, *, changes_nothing: Mapping[str, str] | None = None) -> None:
        self.calls: dict[str, Example] = {}
        self.changes_nothing: Mapping[str, str] = changes_nothing or {}
        """Use cases behind POST, PUT, PATCH or DELETE that leave no fact, each with the reason."""

    def of(self, *use_cases: str) -> Callable[[Example], Example]:
        """Declare the example of these use cases: `@EXAMPLES.of("cancel_run")`."""

        def declare(example: Example) -> Example:
            self.calls.update(dict.fromkeys(use_cases, example))
            return example

        return declare
