"""Each rule of ruff and mypy that the house counts on is shown to fail."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from remit_local.dev.commands import program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("plants")

VIOLATIONS = {
    "from uuid import uuid4\n": "TID251",
    "import datetime\n\nNOW = datetime.datetime.now(datetime.UTC)\n": "TID251",
    "import os\n\nHOME = os.environ\n": "TID251",
    "import importlib\n\nMODULE = importlib.import_module('json')\n": "TID251",
    "from unittest.mock import patch\n": "TID251",
    "import pytest_mock\n": "TID251",
    "from . import api\n": "TID252",
    "def cancel(uow):\n    return uow._session.commit()\n": "SLF001",
    "def cancel(run):\n    return run\n": "ANN001",
    "def cancel() -> None:\n    pass\n": "D103",
    "def cancel() -> None:\n    # TODO: later\n    return\n": "TD002",
    "try:\n    import json\nexcept Exception:\n    pass\n": "BLE001",
    "print('here')\n": "T201",
}


def codes_of(copy: Path, place: str, text: str) -> set[str]:
    argv = [program("ruff"), "check", "--no-cache", "--output-format=json", f"--stdin-filename={copy / place}", "-"]
    done = subprocess.run(argv, cwd=copy, input=text, capture_output=True, text=True, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return {violation["code"] for violation in found}


@pytest.mark.parametrize(("text", "code"), VIOLATIONS.items())
def test_a_planted_line_is_reported(copy: Path, text: str, code: str) -> None:
    assert code in codes_of(copy, "services/audit/src/audit/usecases/planted.py", text)


@pytest.mark.parametrize("place", ["ids.py", "clock.py", "settings.py"])
def test_each_banned_name_has_its_one_place(copy: Path, place: str) -> None:
    text = "from uuid import uuid4\n"
    assert "TID251" not in codes_of(copy, f"libs/chassis/src/chassis/{place}", text)
    assert "TID251" in codes_of(copy, "libs/chassis/src/chassis/uow.py", text)


def test_a_service_test_may_not_touch_the_session_either(copy: Path) -> None:
    text = "def test_cancel(uow):\n    assert uow._session\n"
    assert "SLF001" in codes_of(copy, "services/audit/tests/test_planted.py", text)


def test_types_are_strict(copy: Path) -> None:
    planted = copy / "libs/pdp/src/pdp/planted.py"
    planted.write_text("def decide(asked):\n    return asked\n", encoding="utf-8")
    argv = [program("mypy"), "--cache-dir", str(copy / ".cache"), str(planted)]
    done = subprocess.run(argv, cwd=copy, capture_output=True, text=True, check=False)
    planted.unlink()
    assert done.returncode == 1
    assert "Function is missing a type annotation" in done.stdout
