from __future__ import annotations

import pytest

from contracts.catalog import SERVICES
from remit_local.dev.rooms import misplaced, missing, undeclared_strangers
from remit_local.dev.workspace import service_names, standing_services


def test_the_folders_are_the_services_of_the_catalog() -> None:
    assert set(service_names()) == set(SERVICES)
    assert not undeclared_strangers()


@pytest.mark.parametrize("service", service_names())
def test_a_service_has_only_known_rooms(service: str) -> None:
    assert not misplaced(service)


@pytest.mark.parametrize("service", standing_services())
def test_a_service_brings_what_each_must(service: str) -> None:
    assert not missing(service)
