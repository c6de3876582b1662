"""How many files somebody reads to understand one mutating route, from its door to its table.

A reader follows the door into the use case it calls, and there every name: a row, a rule, a contract is one more file
opened. Another use case called on the way is read by its name, as the chassis is (decision 0008): those are counted
apart.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from remit_local.dev.workspace import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MUTATING = frozenset({"post", "put", "patch", "delete"})
FILES_MAX, CALLED_MAX = 6, 5

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Vertical:
    """One mutating route and the files its reader opens."""

    service: str
    route: str
    files: tuple[str, ...]
    called: tuple[str, ...]
    """Other use cases' files, of which only a function's name is read."""


@dataclass
class Module:
    """One source file: what it defines and what its names stand for."""

    name: str
    path: Path
    homes: tuple[Path, ...]

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.path.read_text(encoding="utf-8"), str(self.path))

    @cached_property
    def defined(self) -> dict[str, ast.AST]:
        """Top-level names of this file and the statements that make them."""
        found: dict[str, ast.AST] = {}
        for node in self.tree.body:
            if isinstance(node, Function | ast.ClassDef):
                found[node.name] = node
            elif isinstance(node, ast.Assign):
                found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = node
        return found

    @cached_property
    def imported(self) -> dict[str, tuple[str, str | None]]:
        """Names imported here: the module they come from and the name there, None for the module itself."""
        found: dict[str, tuple[str, str | None]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    target = (whole, None) if locate(whole, self.homes) else (node.module, alias.name)
                    found[alias.asname or alias.name] = target
            elif isinstance(node, ast.Import):
                found |= {alias.asname or alias.name: (alias.name, None) for alias in node.names}
        return found


def locate(module: str, homes: tuple[Path, ...]) -> Path | None:
    """Find a module's file under one of the source folders."""
    for home in homes:
        stem = home.joinpath(*module.split("."))
        if stem.with_suffix(".py").exists():
            return stem.with_suffix(".py")
        if (stem / "__init__.py").exists():
            return stem / "__init__.py"
    return None


@dataclass
class Reader:
    """Follows names as a reader does: through doors and use cases, up to contracts, tables and domain."""

    service: str
    homes: tuple[Path, ...]
    modules: dict[str, Module] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)

    def module(self, name: str) -> Module | None:
        """Give a module of this service or of the contracts, None for anybody else's."""
        if name.split(".", maxsplit=1)[0] not in (self.service, "contracts"):
            return None
        path = locate(name, self.homes)
        if path is None or path.name == "__init__.py":
            return None
        return self.modules.setdefault(name, Module(name, path, self.homes))

    def read(self, module: Module, name: str, seen: set[tuple[str, str]]) -> None:
        """Note a definition and, in a followed room, all that it refers to."""
        node = module.defined.get(name)
        if node is None or (module.name, name) in seen:
            return
        seen.add((module.name, name))
        for target, wanted in self.references(module, node):
            if target is module or _room(module) == "api":
                self.read(target, wanted, seen)
            elif _room(module) == "usecases" == _room(target):
                self.called.add(target.name)
            elif _room(module) == "usecases":
                seen.add((target.name, wanted))

    def references(self, module: Module, node: ast.AST) -> Iterator[tuple[Module, str]]:
        """Give what a definition refers to, as module and name."""
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                source, name = module.imported.get(part.value.id, ("", ""))
                if name is None and (target := self.module(source)):
                    yield target, part.attr
            if isinstance(part, ast.Name):
                if part.id in module.defined:
                    yield module, part.id
                source, name = module.imported.get(part.id, ("", None))
                if name is not None and (target := self.module(source)):
                    yield target, name


def _room(module: Module) -> str:
    return module.name.split(".")[1]


def mutating_routes(module: Module) -> Iterator[tuple[str, str]]:
    """Give each mutating route of a door: what to print and the function that answers it."""
    for name, node in module.defined.items():
        if not isinstance(node, Function):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in MUTATING:
                first = call.args[0] if call.args else None
                path = str(first.value) if isinstance(first, ast.Constant) else ""
                yield f"{call.func.attr.upper()} {module.path.stem}{path} {name}", name


def verticals(service: str, root: Path = ROOT) -> list[Vertical]:
    """List a service's mutating routes with the files read for each, its composition root included."""
    home = root / "services" / service / "src"
    reader = Reader(service, (home, root / "libs" / "contracts" / "src"))
    found: list[Vertical] = []
    for path in sorted((home / service / "api").rglob("*.py")):
        name = ".".join(path.relative_to(home).with_suffix("").parts)
        if (module := reader.module(name)) is None:
            continue
        for route, function in mutating_routes(module):
            seen: set[tuple[str, str]] = set()
            reader.called.clear()
            reader.read(module, function, seen)
            files = {f"{service}.main"} | {at for at, _ in seen}
            found.append(Vertical(service, route, tuple(sorted(files)), tuple(sorted(reader.called - files))))
    return found
