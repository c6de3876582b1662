"""Facts of audit: what it found missing in what others published, and what it could bring back."""

from __future__ import annotations

from typing import ClassVar

from contracts.envelope import Fact


class GapFact(Fact):
    """A range of a producer's sequence."""

    subject_field: ClassVar = "producer"

    producer: str
    first: int
    last: int


class GapDetected(GapFact):
    """The stream did not show facts that the producer has numbered."""

    type: ClassVar = "audit.gap.detected.v1"


class GapHealed(GapFact):
    """Facts that the stream did not show were brought back from the producer's log."""

    type: ClassVar = "audit.gap.healed.v1"
