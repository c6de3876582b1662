"""Each import rule is shown to fail: one spoiled copy, one run of import-linter, a look for every plant in it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from remit_local.dev.commands import program
from remit_local.dev.workspace import package_folders

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("plants")


@dataclass(frozen=True)
class Plant:
    """A violation: where, what, and how import-linter names it."""

    module: str
    text: str
    reported: str


PLANTS = (
    Plant("services/policy/src/policy/domain/planted.py", "import identity\n", "policy.domain.planted -> identity"),
    Plant("libs/spine/src/spine/planted.py", "import resources\n", "spine.planted -> resources"),
    Plant("libs/chassis/src/chassis/planted.py", "import spine\n", "chassis.planted -> spine"),
    Plant("libs/contracts/src/contracts/planted.py", "import pdp\n", "contracts.planted -> pdp"),
    Plant("libs/resources/src/resources/planted.py", "import billing\n", "resources.planted -> billing"),
    Plant(
        "services/audit/src/audit/domain/planted.py",
        "import audit.tables.planted\n",
        "audit.domain.planted -> audit.tables.planted",
    ),
    Plant(
        "services/audit/src/audit/usecases/planted.py",
        "import audit.api.planted\n",
        "audit.usecases.planted -> audit.api.planted",
    ),
    Plant(
        "services/audit/src/audit/consumers/planted.py",
        "import audit.api.planted\n",
        "audit.consumers.planted -> audit.api.planted",
    ),
    Plant("services/audit/src/audit/tables/planted.py", "", "audit.domain.planted -> audit.tables.planted"),
    Plant("services/audit/src/audit/api/planted.py", "", "audit.usecases.planted -> audit.api.planted"),
    Plant("services/billing/src/billing/helpers.py", "", "billing.helpers"),
    Plant(
        "services/billing/src/billing/domain/planted.py", "import sqlalchemy\n", "billing.domain.planted -> sqlalchemy"
    ),
    Plant(
        "services/billing/src/billing/usecases/planted.py", "import fastapi\n", "billing.usecases.planted -> fastapi"
    ),
    Plant("libs/contracts/src/contracts/wired.py", "import faststream\n", "contracts.wired -> faststream"),
)


@pytest.fixture(scope="module")
def report(copy: Path) -> str:
    for plant in PLANTS:
        path = copy / plant.module
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(plant.text, encoding="utf-8")
    sources = os.pathsep.join(str(package / "src") for package in package_folders(copy))
    environment = {**os.environ, "PYTHONPATH": sources, "COLUMNS": "200"}
    argv = [program("lint-imports"), "--no-logo", "--no-cache"]
    done = subprocess.run(argv, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    for plant in PLANTS:
        (copy / plant.module).unlink()
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.module.removesuffix(".py").replace("/", "."))
def test_a_planted_import_is_reported(report: str, plant: Plant) -> None:
    assert plant.reported in report


@pytest.mark.parametrize(
    "rule",
    [
        "Imports point down",
        "Services never import each other",
        "Rooms of a service",
        "Contracts know no framework",
        "Domain knows no database",
        "Use cases know no HTTP",
    ],
)
def test_every_contract_is_broken_by_a_plant(report: str, rule: str) -> None:
    verdicts = report[report.index(rule) : report.index("Contracts:")]
    assert verdicts.split("KEPT")[0].split("BROKEN")[0] != verdicts
    assert "BROKEN" in verdicts.split("KEPT")[0]
