"""Routes of completeness, for the platform."""

from pydantic import BaseModel, Field

from audit.usecases import coverage
from chassis.http import Router, Uow

router = Router("coverage", prefix="/v1/platform/audit")


class ProducerCoverageOut(BaseModel):
    """One producer: what it says it published, and what is here."""

    producer: str
    attested_sequence: int
    attestation_age_seconds: float | None = Field(description="None: it has never attested.")
    contiguous_sequence: int
    open_gaps: int
    quarantined: int


class PlatformCoverageOut(BaseModel):
    """All producers."""

    items: list[ProducerCoverageOut]


@router.get("/coverage", permission="platform:coverage")
async def get_platform_coverage(uow: Uow) -> PlatformCoverageOut:
    """Whether the log misses anything that a service has published."""
    rows = await coverage.get_platform_coverage(uow)
    return PlatformCoverageOut(items=[ProducerCoverageOut(**row) for row in rows])
