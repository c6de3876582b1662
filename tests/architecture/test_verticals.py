from __future__ import annotations

import pytest

from remit_local.dev.verticals import FILES_MAX, verticals
from remit_local.dev.workspace import standing_services


@pytest.mark.parametrize("service", standing_services())
def test_a_mutating_route_is_read_in_few_files(service: str) -> None:
    found = verticals(service)
    for vertical in found:
        print(f"{service}: {vertical.route}: {len(vertical.files)} files: {', '.join(vertical.files)}")
    assert not [vertical for vertical in found if len(vertical.files) > FILES_MAX]
