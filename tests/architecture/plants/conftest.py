from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from remit_local.dev.workspace import PACKAGE_FOLDERS, ROOT

IGNORED = shutil.ignore_patterns("__pycache__", "tests", "node_modules", "schemas")


@pytest.fixture(scope="session")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second checkout that may be spoiled: sources and settings, nothing else."""
    root = tmp_path_factory.mktemp("plants") / "copy"
    for folder in PACKAGE_FOLDERS:
        shutil.copytree(ROOT / folder, root / folder, ignore=IGNORED)
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(ROOT / name, root)
    return root
