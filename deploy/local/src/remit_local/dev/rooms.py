"""Which rooms a service may have, and what a standing service must bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit_local.dev.workspace import ROOT, service_names

if TYPE_CHECKING:
    from pathlib import Path

MODULES = frozenset({"__init__", "__main__", "main", "settings"})
ROOMS = frozenset({"api", "consumers", "jobs", "usecases", "tables", "clients", "domain"})
REQUIRED = ("README.md", "pyproject.toml", "openapi.json", "migrations")


def misplaced(service: str, root: Path = ROOT) -> list[str]:
    """Name what lies in a service's source outside its known rooms; a folder without `__init__.py` counts too."""
    source = root / "services" / service / "src" / service
    found = [f"{path}: not a known module" for path in source.glob("*.py") if path.stem not in MODULES]
    folders = [path for path in source.iterdir() if path.is_dir() and path.name != "__pycache__"]
    found += [f"{path}: not a known room" for path in folders if path.name not in ROOMS]
    homeless = {path.parent for path in source.rglob("*.py")} - {path.parent for path in source.rglob("__init__.py")}
    found += [f"{path}: no __init__.py, so import-linter does not see it" for path in homeless]
    return sorted(found)


def missing(service: str, root: Path = ROOT) -> list[str]:
    """Name what a service must bring and does not."""
    home = root / "services" / service
    return [f"{home / name}: missing" for name in REQUIRED if not (home / name).exists()]


def undeclared_strangers(root: Path = ROOT) -> list[str]:
    """Name folders under services/ that hold Python but are no package."""
    known = set(service_names(root))
    folders = [path for path in (root / "services").iterdir() if path.is_dir() and path.name not in known]
    return sorted(f"{path}: no pyproject.toml" for path in folders if any(path.rglob("*.py")))
