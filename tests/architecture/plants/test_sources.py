"""The measures and the room rules are shown to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from remit_local.dev.dependencies import undeclared
from remit_local.dev.rooms import misplaced, missing, undeclared_strangers
from remit_local.dev.sources import library_lines, long_files, long_functions, read_sources
from remit_local.dev.verticals import verticals

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A workspace of one service, one library and nothing in them."""
    for package in ("services/audit/src/audit", "libs/chassis/src/chassis", "libs/contracts/src/contracts"):
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "__init__.py").touch()
    for package in ("services/audit", "libs/chassis", "libs/contracts"):
        (tmp_path / package / "pyproject.toml").touch()
    return tmp_path


def put(root: Path, place: str, text: str) -> Path:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_long_file_is_named(empty: Path) -> None:
    path = put(empty, "services/audit/src/audit/api/entries.py", "A = 1\n" * 501)
    assert long_files(read_sources(empty)) == [f"{path}: 501 lines, at most 500"]


def test_a_long_function_is_named(empty: Path) -> None:
    path = put(empty, "services/audit/src/audit/api/entries.py", "class A:\n    def f(self):\n" + "        pass\n" * 50)
    assert long_functions(read_sources(empty)) == [f"{path}:2: f has 51 lines, at most 50"]


def test_the_chassis_is_counted_without_its_test_kit(empty: Path) -> None:
    put(empty, "libs/chassis/src/chassis/uow.py", "A = 1\n" * 40)
    put(empty, "libs/spine/src/spine/testing/kit.py", "A = 1\n" * 400)
    put(empty, "libs/chassis/tests/test_uow.py", "A = 1\n" * 400)
    assert library_lines(read_sources(empty), "chassis") == 40


@pytest.mark.parametrize("place", ["helpers.py", "utils/__init__.py", "api/v2/entries.py"])
def test_an_unknown_room_is_named(empty: Path, place: str) -> None:
    assert not misplaced("audit", empty)
    put(empty, f"services/audit/src/audit/{place}", "")
    assert misplaced("audit", empty)


def test_a_bare_service_lacks_four_things_less_its_project_file(empty: Path) -> None:
    assert [line.split("/")[-1] for line in missing("audit", empty)] == [
        "README.md: missing",
        "openapi.json: missing",
        "migrations: missing",
    ]


def test_a_folder_of_code_that_is_no_package_is_named(empty: Path) -> None:
    put(empty, "services/stray/main.py", "")
    assert undeclared_strangers(empty) == [f"{empty / 'services/stray'}: no pyproject.toml"]


def test_the_files_of_a_route_are_followed_to_its_table(empty: Path) -> None:
    home = "services/audit/src/audit"
    put(empty, "libs/contracts/src/contracts/audit.py", "class EntryHidden:\n    pass\n")
    put(empty, f"{home}/tables/entries.py", "class Entry:\n    pass\n")
    put(empty, f"{home}/tables/unrelated.py", "class Other:\n    pass\n")
    put(empty, f"{home}/domain/entries.py", "def may_hide(entry):\n    return True\n")
    put(
        empty,
        f"{home}/usecases/entries.py",
        "from audit.domain import entries as rules\n"
        "from audit.tables.entries import Entry\n"
        "from audit.tables.unrelated import Other\n"
        "from contracts.audit import EntryHidden\n"
        "async def hide_entry(uow):\n    _hide(await uow.get(Entry))\n"
        "def _hide(entry):\n    rules.may_hide(entry)\n    EntryHidden()\n"
        "def list_entries(uow):\n    return Other\n",
    )
    put(
        empty,
        f"{home}/api/entries.py",
        "from audit.usecases import entries\n"
        "@router.post('/{id}/hide', permission='audit:hide')\n"
        "async def hide_entry(uow):\n    return await entries.hide_entry(uow)\n"
        "@router.get('')\nasync def list_entries(uow):\n    return entries.list_entries(uow)\n",
    )
    (vertical,) = verticals("audit", empty)
    assert vertical.route == "POST entries/{id}/hide hide_entry"
    assert vertical.files == (
        "audit.api.entries",
        "audit.domain.entries",
        "audit.main",
        "audit.tables.entries",
        "audit.usecases.entries",
        "contracts.audit",
    )


def test_an_undeclared_import_is_named(empty: Path) -> None:
    put(empty, "libs/chassis/pyproject.toml", '[project]\nname = "remit-chassis"\ndependencies = ["pydantic>=2"]\n')
    put(empty, "libs/contracts/pyproject.toml", '[project]\nname = "remit-contracts"\n')
    audit = '[project]\nname = "remit-audit"\ndependencies = ["remit-chassis"]\n'
    put(empty, "services/audit/pyproject.toml", audit)
    put(empty, "services/audit/src/audit/api/entries.py", "import json\nimport chassis\nimport pydantic_core\n")
    assert not undeclared(empty)
    path = put(empty, "services/audit/src/audit/api/entries.py", "import yaml\n")
    assert undeclared(empty) == [f"{path}: remit-audit imports yaml and does not declare it"]
