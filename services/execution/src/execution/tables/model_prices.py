"""What models cost, as an organization says."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from execution.tables import Row, Stamped


class ModelPrice(Stamped, Row):
    """The price of a provider's model, or of all whose names begin alike, from a moment on."""

    __tablename__ = "model_price"
    __table_args__ = (
        Index(
            "model_price_organization_id_provider_model_name_valid_from_key",
            "organization_id", "provider", "model_name", "valid_from", unique=True,
        ),
        Index(
            "model_price_organization_id_created_at_id_idx",
            "organization_id", text("created_at desc"), text("id desc"),
        ),
    )  # fmt: skip

    id: Mapped[UUID] = mapped_column(primary_key=True)
    provider: Mapped[str]
    model_name: Mapped[str]
    """A name, or its beginning and a star."""
    input_usd_micros_per_million: Mapped[int] = mapped_column(BigInteger)
    """Micro-USD for a million tokens of input."""
    output_usd_micros_per_million: Mapped[int] = mapped_column(BigInteger)
    valid_from: Mapped[datetime]
    created_by: Mapped[str]
