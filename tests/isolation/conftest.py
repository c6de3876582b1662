"""What the northern organization has, for the southern one to ask after."""

from __future__ import annotations

import pytest
from tests.isolation.routes import things_of
from tests.town import Town


@pytest.fixture(scope="session")
async def things(town: Town) -> dict[str, str]:
    """The id of one of everything in the north, by the name that paths give it."""
    return await things_of(town, town.north)
