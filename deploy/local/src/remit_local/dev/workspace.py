"""Where the checkout is, and which packages it holds."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[5]
PACKAGE_FOLDERS = ("libs", "services", "clients", "deploy")


def package_folders(root: Path = ROOT) -> list[Path]:
    """List the folders of all workspace packages, sorted."""
    return sorted(project.parent for folder in PACKAGE_FOLDERS for project in (root / folder).glob("*/pyproject.toml"))


def service_names(root: Path = ROOT) -> list[str]:
    """List the services by the folders that hold one, sorted."""
    return sorted(project.parent.name for project in (root / "services").glob("*/pyproject.toml"))


def standing_services(root: Path = ROOT) -> list[str]:
    """List the services that have a composition root, sorted."""
    return [name for name in service_names(root) if (root / "services" / name / "src" / name / "main.py").exists()]
