"""Keys of model providers, sealed."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from execution.tables import Row, Stamped


class ModelCredential(Stamped, Row):
    """A provider's key: encrypted with a data key of its own, which the key-encryption key `kek_id` wraps."""

    __tablename__ = "model_credential"
    __table_args__ = (
        Index("model_credential_organization_id_name_key", "organization_id", "name", unique=True),
        Index(
            "model_credential_organization_id_created_at_id_idx",
            "organization_id", text("created_at desc"), text("id desc"),
        ),
    )  # fmt: skip

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    provider: Mapped[str]
    base_url: Mapped[str | None]
    ciphertext: Mapped[bytes]
    wrapped_key: Mapped[bytes]
    kek_id: Mapped[str]
    hint: Mapped[str]
    """The key's last four characters, so that people can tell keys apart."""
    created_by: Mapped[str]
