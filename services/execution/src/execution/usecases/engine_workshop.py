"""What the runs of one worker share."""

from __future__ import annotations

from dataclasses import dataclass

from execution.usecases.engine_attempts import Attempts
from execution.usecases.engine_batches import Batches
from execution.usecases.engine_definitions import Definitions
from execution.usecases.engine_detached import DetachedCalls
from execution.usecases.engine_rows import Rows, RunWrite


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where they store, look up, call, and leave what outlives them."""

    rows: Rows
    writes: Batches[RunWrite, str | None]
    definitions: Definitions
    attempts: Attempts
    detached: DetachedCalls | None = None
    """Where calls go on that outlive their run's turn; None: nowhere, their runs are held."""
