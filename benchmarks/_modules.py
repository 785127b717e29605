"""Python packages read as syntax trees: their modules, their imports, and circles of imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef
Import = ast.Import | ast.ImportFrom
Arrows = dict[str, set[str]]
"""Name of a module -> names of the modules that it imports."""
When = Literal["always", "running", "starting"]
"""Which imports count. `always`: all of them. `running`: those that ever run, so not those below
`if TYPE_CHECKING:`. `starting`: those that run when the module is imported, so not those inside of
functions either."""


@dataclass(frozen=True, kw_only=True)
class Module:
    """A source file."""

    path: Path
    """Where it lies, from the folder of the packages."""
    name: str
    """As an import says it: `workbench.verbs.effects`. An `__init__` has the package's name."""
    source: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether the file is the `__init__` of a package."""
        return self.path.name == "__init__.py"

    @property
    def package(self) -> str:
        """Name of the package that the file stands in; relative imports start there."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the tree, walked only once because every check needs them."""
        return list(ast.walk(self.tree))


def read_modules(root: Path, packages: Sequence[str]) -> list[Module]:
    """Parse every Python file below the packages of a folder, in the order of their paths."""
    modules = []
    for package in packages:
        for file in sorted((root / package).rglob("*.py")):
            path = file.relative_to(root)
            parts = path.with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            source = file.read_text(encoding="utf-8")
            tree = ast.parse(source, filename=str(path))
            modules.append(Module(path=path, name=name, source=source, tree=tree))
    return modules


def import_arrows(modules: Sequence[Module], when: When = "always") -> Arrows:
    """Draw an arrow from each module to each other module of the list that it imports.

    `from package import name` is an arrow to the module `package.name` where there is one, and to
    the package otherwise. Two things draw no arrow: that importing `a.b.c` also runs the `__init__`
    of `a` and of `a.b`, and that a package's `__init__` imports the modules of that package,
    because opening a plug-in by its name is its purpose.
    """
    names = {module.name for module in modules}
    arrows: Arrows = {}
    for module in modules:
        targets: set[str] = set()
        for statement in _imports(module.tree, when):
            targets |= _targets(statement, module, names)
        members = {
            name for name in targets if module.is_package and name.startswith(f"{module.name}.")
        }
        arrows[module.name] = targets - members - {module.name}
    return arrows


def _imports(node: ast.AST, when: When) -> Iterator[Import]:
    """Walk to every import that counts; they are statements, so expressions are not searched."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Import):
            yield child
        elif isinstance(child, Function) and when == "starting":
            continue
        elif (
            isinstance(child, ast.If)
            and when != "always"
            and "TYPE_CHECKING" in ast.unparse(child.test)
        ):
            for statement in child.orelse:
                yield from _imports(statement, when)
        elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _imports(child, when)


def _targets(statement: Import, module: Module, names: set[str]) -> set[str]:
    """Name the modules of the list that a statement imports."""
    if isinstance(statement, ast.Import):
        return {alias.name for alias in statement.names} & names
    base = statement.module or ""
    if statement.level:
        parents = module.package.split(".")
        parents = parents[: len(parents) - statement.level + 1]
        base = ".".join([*parents, base] if base else parents)
    imported = {f"{base}.{alias.name}" for alias in statement.names}
    targets = imported & names
    if base in names and imported - names:
        targets.add(base)
    return targets


def circles(arrows: Arrows) -> list[list[str]]:
    """Find the groups of modules of which each imports every other, directly or by way of others.

    These are the strongly connected components of more than one module. The graph has a few hundred
    modules, so a plain search from each of them is fast enough.
    """
    reached = {name: _reachable(name, arrows) for name in arrows}
    groups = {
        frozenset(other for other in reached[name] if name in reached[other]) for name in arrows
    }
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _reachable(start: str, arrows: Arrows) -> set[str]:
    """Follow arrows from a module, at least once, to all modules that they lead to."""
    visited: set[str] = set()
    waiting = list(arrows[start])
    while waiting:
        name = waiting.pop()
        if name not in visited:
            visited.add(name)
            waiting += arrows[name]
    return visited
