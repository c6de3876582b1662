from __future__ import annotations

import pytest

from remit_local.dev.verticals import CALLED_MAX, FILES_MAX, verticals
from remit_local.dev.workspace import standing_services


@pytest.mark.parametrize("service", standing_services())
def test_a_mutating_route_is_read_in_few_files(service: str) -> None:
    too_many = []
    for vertical in verticals(service):
        use_case, count, called = vertical.route.split()[-1], len(vertical.files), len(vertical.called)
        print(f"{service}: {vertical.route}: {count} files: {', '.join(vertical.files)}")
        if called:
            print(f"    and calls, by their names, {', '.join(vertical.called)}")
        if count > FILES_MAX or called > CALLED_MAX:
            too_many.append(f"{use_case}: {count} files, calls of {called} more")
    assert not too_many
