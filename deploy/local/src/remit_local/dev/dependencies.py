"""Whether a package declares what it imports; one environment holds all packages, so a missing line goes unnoticed."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from remit_local.dev.workspace import ROOT, package_folders

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# These run only where the development dependencies are installed.
TEST_KITS = frozenset({"testing", "containers", "dev"})


@dataclass(frozen=True)
class Package:
    """A workspace package: what it is called, what it declares, what it holds, what it imports and where."""

    name: str
    declared: tuple[Requirement, ...]
    modules: frozenset[str]
    imports: Mapping[str, Path]


def normal(name: str) -> str:
    """Give a distribution's name in its one normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def top_imports(source: Path) -> dict[str, Path]:
    """Give the top-level names imported under a source folder, each with one file; test kits are left out."""
    found: dict[str, Path] = {}
    for path in sorted(source.rglob("*.py")):
        if TEST_KITS & set(path.relative_to(source).with_suffix("").parts):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".", maxsplit=1)[0]: path for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found[node.module.split(".", maxsplit=1)[0]] = path
    return found


def read_package(folder: Path) -> Package:
    """Read one package's project file and sources."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [line for lines in project.get("optional-dependencies", {}).values() for line in lines]
    declared = tuple(Requirement(line) for line in [*project.get("dependencies", []), *optional])
    modules = frozenset(path.name for path in (folder / "src").iterdir() if path.is_dir())
    return Package(normal(project["name"]), declared, modules, top_imports(folder / "src"))


def _brought(requirement: Requirement, packages: Mapping[str, Package]) -> tuple[Requirement, ...]:
    name = normal(requirement.name)
    if name in packages:
        return packages[name].declared
    try:
        lines = [Requirement(line) for line in requires(name) or ()]
    except PackageNotFoundError:
        return ()
    extras = requirement.extras | {""}
    return tuple(line for line in lines if not line.marker or any(line.marker.evaluate({"extra": x}) for x in extras))


def available(package: Package, packages: Mapping[str, Package]) -> set[str]:
    """Give the distributions that installing a package alone would bring, itself included."""
    found = {str(requirement): requirement for requirement in package.declared}
    waiting = list(found.values())
    while waiting:
        for requirement in _brought(waiting.pop(), packages):
            if str(requirement) not in found:
                found[str(requirement)] = requirement
                waiting.append(requirement)
    return {package.name, *(normal(requirement.name) for requirement in found.values())}


def undeclared(root: Path = ROOT) -> list[str]:
    """Name the imports that installing a package alone would not bring, with a file for each."""
    packages = {package.name: package for package in map(read_package, package_folders(root))}
    owners = {module: {normal(name) for name in names} for module, names in packages_distributions().items()}
    # What is installed on demand is not here to ask: it is taken to be called like its module.
    owners |= {module: {package.name} for package in packages.values() for module in package.modules}
    found: list[str] = []
    for package in packages.values():
        allowed = available(package, packages)
        for module, path in package.imports.items():
            if module not in sys.stdlib_module_names and not owners.get(module, {normal(module)}) & allowed:
                found.append(f"{path}: {package.name} imports {module} and does not declare it")
    return found
