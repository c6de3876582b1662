"""What requests' bodies share: their form, and fields that mean the same wherever they stand."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=100)]
"""What a person calls a thing."""
Description = Annotated[str, Field(max_length=2000)]
"""What a person says of a thing."""
Reference = Annotated[str, Field(max_length=100)]
"""A thing's id or name."""


class In(BaseModel):
    """A request's body, or a part of one: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")
