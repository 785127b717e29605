"""Can a newcomer read the code? What makes it hard is counted over the three packages.

1. Every file of `workbench`, `sae_training` and `feature_store` is parsed. Each check below names
   the places that break a habit: a long line, a loose module, a circle of imports, a banned name,
   a function with many parameters, a public name without a docstring.
2. mypy runs with the project's configuration; each error counts.
3. Density is the number of calls, subscripts, operators, comparisons, conditional expressions and
   comprehensions per line of code. Docstrings, comments and blank lines are not code.

`python -m benchmarks house` prints the figures. `python -m benchmarks.house PATH ...` lists the
places in these files and folders as `file:line: kind: name`; `--mypy` adds mypy's errors,
`--root FOLDER` looks at another checkout.
Left out: whether a name or a docstring is a good one. People read for that.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks._modules import (
    Arrows,
    Definition,
    Function,
    Module,
    circles,
    import_arrows,
    read_modules,
)

NAME = "house"
PACKAGES = ("workbench", "sae_training", "feature_store")
ROOT = Path(__file__).parent.parent
COLUMNS, PARAMETERS, LINES, FIELDS = 100, 6, 60, 3
"""Longest line [characters], signature [parameters] and function [lines]; most fields of a record
that may be built by position."""
BANNED = {"told", "found", "one", "own", "said", "hurt", "plainly", "which", "who", "each"}
"""Filler words, which say nothing of the thing that they name."""
REACH = {
    "long line": 0,
    "fmt: skip": 0,
    "loose module": 6,
    "circle": 0,
    "verb imports verb": 0,
    "system imports system": 0,
    "class name used again": 0,
    "banned name": 0,
    "banned definition": 0,
    "positional record": 0,
    "many parameters": 0,
    "long function": 10,
    "long function without a reason": 0,
    "no docstring": 0,
    "no docstring inside": 0,
    "mypy": 0,
    "density": 1.15,
}
"""Kind of offence -> how many there may be; for density, operations per line of code."""


@dataclass(frozen=True, order=True)
class Offence:
    """A place that breaks a habit."""

    path: Path
    line: int
    """From 1."""
    kind: str
    """A key of `REACH`."""
    name: str
    """What is at fault: a name, or a few words."""

    def __str__(self) -> str:
        """As compilers write places, so that an editor jumps there."""
        return f"{self.path}:{self.line}: {self.kind}: {self.name}"


Offences = Iterator[Offence]


# Lines


def long_lines(module: Module) -> Offences:
    """Find lines of more than 100 characters."""
    for number, line in enumerate(module.source.splitlines(), 1):
        if len(line) > COLUMNS:
            yield Offence(module.path, number, "long line", f"{len(line)} characters")


def skipped_formatting(module: Module) -> Offences:
    """Find statements that the formatter is told to leave alone."""
    for number, line in enumerate(module.source.splitlines(), 1):
        if comment := re.search(r"# *fmt: *(skip|off)", line):
            yield Offence(module.path, number, "fmt: skip", comment[0])


# Functions


def many_parameters(module: Module) -> Offences:
    """Find functions with more than six parameters; `self` and `cls` do not count, `*args` does.

    Kernels are left out: Triton takes addresses one by one.
    """
    kernels = re.search(r"^import triton\b", module.source, re.M) is not None
    for function in _functions(module):
        if kernels and any(ast.unparse(d) == "_compile" for d in function.decorator_list):
            continue
        count = len([name for name in _parameters(function.args) if name not in ("self", "cls")])
        if count > PARAMETERS:
            name = f"{function.name} ({count})"
            yield Offence(module.path, function.lineno, "many parameters", name)


def long_functions(module: Module) -> Offences:
    """Find functions of more than 60 lines, from `def` to the end, the docstring included.

    Ten of them may stay, each with its reason in a comment `# long: ...` above it, or above its
    decorators.
    """
    lines = module.source.splitlines()
    for function in _functions(module):
        length = _count_lines(function)
        if length <= LINES:
            continue
        code = length - _docstring_lines(function)
        name = f"{function.name} ({length} lines, {code} without docstring)"
        yield Offence(module.path, function.lineno, "long function", name)
        start = min(node.lineno for node in [function, *function.decorator_list])
        if "# long: " not in lines[start - 2]:
            kind = "long function without a reason"
            yield Offence(module.path, function.lineno, kind, function.name)


def _functions(module: Module) -> Iterator[Function]:
    return (node for node in module.nodes if isinstance(node, Function))


def _parameters(arguments: ast.arguments) -> list[str]:
    """Name every parameter of a signature, those of lambdas among its defaults left out."""
    starred = [parameter for parameter in (arguments.vararg, arguments.kwarg) if parameter]
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *starred]
    return [parameter.arg for parameter in parameters]


def _count_lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _docstring_lines(definition: Definition) -> int:
    has_docstring = ast.get_docstring(definition, clean=False) is not None
    return _count_lines(definition.body[0]) if has_docstring else 0


# Names


def banned_names(module: Module) -> Offences:
    """Find assignments, parameters and definitions whose name is a filler word.

    An assignment is whatever gives a name a value: `=`, `for`, `with`, `:=`, a comprehension, a
    field of a class, an attribute, `except ... as` and `import ... as`. Names inside of a tuple
    count singly.
    """
    for node in module.nodes:
        line = getattr(node, "lineno", 1)
        name = _assigned_name(node)
        if name in BANNED:
            yield Offence(module.path, line, "banned name", name)
        if isinstance(node, Definition) and node.name in BANNED:
            yield Offence(module.path, line, "banned definition", node.name)


def _assigned_name(node: ast.AST) -> str:
    """Name what a node gives a value; empty where it gives none."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            return name
        case ast.arg(arg=name):
            return name
        case (
            ast.alias(asname=name)
            | ast.ExceptHandler(name=name)
            | ast.MatchAs(name=name)
            | ast.MatchStar(name=name)
        ):
            return name or ""
    return ""


def repeated_class_names(modules: Sequence[Module]) -> Offences:
    """Find public classes that share their name with another class."""
    places = defaultdict(list)
    for module in modules:
        for node in module.nodes:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append((module.path, node.lineno))
    for name, definitions in places.items():
        if len(definitions) > 1:
            for path, line in definitions:
                yield Offence(path, line, "class name used again", f"{name} ({len(definitions)})")


def positional_records(modules: Sequence[Module]) -> Offences:
    """Find records of more than three fields that are built by position.

    A record is a dataclass or a named tuple of the house. One that is unpacked (`Edge(*row)`) is
    left out: its fields come in their order from elsewhere.
    """
    fields = {
        node.name: count
        for module in modules
        for node in module.nodes
        if isinstance(node, ast.ClassDef) and (count := _record_fields(node)) > FIELDS
    }
    for module in modules:
        for node in module.nodes:
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in fields and not any(isinstance(one, ast.Starred) for one in node.args):
                yield Offence(module.path, node.lineno, "positional record", name)


def _record_fields(node: ast.ClassDef) -> int:
    """Count the fields of a dataclass or named tuple; 0 for any other class."""
    marks = [ast.unparse(mark) for mark in [*node.bases, *node.decorator_list]]
    if not any("dataclass" in mark or mark.endswith("NamedTuple") for mark in marks):
        return 0
    return sum(isinstance(statement, ast.AnnAssign) for statement in node.body)


# Docstrings


def missing_docstrings(module: Module) -> Offences:
    """Find public functions, classes and methods without a docstring.

    Those inside of a function or of a private class are a kind of their own, because no user of the
    module meets them.
    """
    for parents, definition in public_definitions(module):
        if ast.get_docstring(definition) is None:
            is_inside = any(isinstance(p, Function) or p.name.startswith("_") for p in parents)
            kind = "no docstring inside" if is_inside else "no docstring"
            name = ".".join(node.name for node in [*parents, definition])
            yield Offence(module.path, definition.lineno, kind, name)


def public_definitions(module: Module) -> Iterator[tuple[tuple[Definition, ...], Definition]]:
    """Walk to every function, class and method without an underscore, after those around it.

    Overloads and setters of properties are left out: their docstring stands at the function that
    they belong to.
    """
    for parents, definition in _definitions(module.tree, ()):
        decorators = [ast.unparse(decorator) for decorator in definition.decorator_list]
        repeats = any(name.endswith(("overload", ".setter", ".deleter")) for name in decorators)
        if not definition.name.startswith("_") and not repeats:
            yield parents, definition


def _definitions(
    node: ast.AST, parents: tuple[Definition, ...]
) -> Iterator[tuple[tuple[Definition, ...], Definition]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            yield parents, child
            yield from _definitions(child, (*parents, child))
        elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _definitions(child, parents)


# Rooms


def loose_modules(modules: Sequence[Module]) -> Offences:
    """Find modules directly in `workbench/`, beside its rooms."""
    for module in modules:
        if module.package == "workbench" and not module.is_package:
            yield Offence(module.path, 1, "loose module", module.name)


def import_circles(modules: Sequence[Module]) -> Offences:
    """Find the modules in circles of imports; those for types and inside of functions count."""
    paths = {module.name: module.path for module in modules}
    for number, circle in enumerate(circles(import_arrows(modules)), 1):
        for name in circle:
            others = ", ".join(other for other in circle if other != name)
            yield Offence(paths[name], 1, "circle", f"{number}: with {others}")


def sideways_imports(modules: Sequence[Module]) -> Offences:
    """Find verbs that import another verb, and published systems that import another system."""
    arrows = import_arrows(modules)
    paths = {module.name: module.path for module in modules}
    kinds = {"workbench.verbs": "verb imports verb", "workbench.systems": "system imports system"}
    for package, kind in kinds.items():
        for source, target in _arrows_between_members(package, arrows):
            yield Offence(paths[source], 1, kind, target)


def _arrows_between_members(package: str, arrows: Arrows) -> Iterator[tuple[str, str]]:
    """Follow imports from a member of a package, a module or a folder, to another member."""
    depth = package.count(".") + 2
    modules = [name for name in arrows if name.startswith(f"{package}.")]
    for source in modules:
        for target in sorted(arrows[source].intersection(modules)):
            if source.split(".")[:depth] != target.split(".")[:depth]:
                yield source, target


# Types


def mypy_errors(root: Path) -> list[Offence]:
    """Run mypy over the packages of a folder, with that folder's configuration."""
    command = [sys.executable, "-m", "mypy", "--no-pretty", *PACKAGES]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if answer.returncode not in (0, 1):  # 1: there are errors; others: mypy could not look
        raise RuntimeError(f"mypy could not check {root}: {answer.stdout}{answer.stderr}")
    pattern = re.compile(r"(?P<path>[^:]+):(?P<line>\d+):(\d+:)? error: (?P<text>.*)")
    matches = map(pattern.match, answer.stdout.splitlines())
    return [Offence(Path(m["path"]), int(m["line"]), "mypy", m["text"]) for m in matches if m]


def has_mypy() -> bool:
    """Whether mypy is installed beside this Python."""
    return importlib.util.find_spec("mypy") is not None


# Density


OPERATIONS = (
    ast.Call,
    ast.Subscript,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)
"""What a reader must evaluate. A chain counts as one: `a and b and c`, `a < b < c`."""
BLANK = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)
"""Tokens that make no line of code."""


def density(modules: Sequence[Module]) -> float:
    """Divide the operations of all modules by their lines of code."""
    operations = sum(isinstance(node, OPERATIONS) for module in modules for node in module.nodes)
    return operations / sum(count_code_lines(module) for module in modules)


def count_code_lines(module: Module) -> int:
    """Count the lines that hold code.

    Every statement that is nothing but a string is a docstring, so that the text below a field is
    one, too.
    """
    numbers: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        if token.type not in BLANK:
            numbers.update(range(token.start[0], token.end[0] + 1))
    for node in module.nodes:
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                numbers.difference_update(range(node.lineno, node.lineno + _count_lines(node)))
    return len(numbers)


# Figures


Check = Callable[[Module], Offences]
CHECKS: tuple[Check, ...] = (
    long_lines,
    skipped_formatting,
    many_parameters,
    long_functions,
    banned_names,
    missing_docstrings,
)
"""What a module shows by itself."""
HouseCheck = Callable[[Sequence[Module]], Offences]
HOUSE_CHECKS: tuple[HouseCheck, ...] = (
    repeated_class_names,
    positional_records,
    loose_modules,
    import_circles,
    sideways_imports,
)
"""What only all modules together show."""


def find_offences(modules: Sequence[Module]) -> list[Offence]:
    """Run every check but mypy, and sort the places by file and line."""
    offences: list[Offence] = []
    for check in CHECKS:
        for module in modules:
            offences += check(module)
    for house_check in HOUSE_CHECKS:
        offences += house_check(modules)
    return sorted(offences)


def count_figures(modules: Sequence[Module]) -> dict[str, float | None]:
    """Count each kind of offence but mypy's, which stays None, and measure density.

    A circle counts once, however many modules it has, and a class name once, however many classes
    have it.
    """
    offences = find_offences(modules)
    counts = Counter(offence.kind for offence in offences)
    shared = {offence.name for offence in offences if offence.kind == "class name used again"}
    return {kind: counts[kind] for kind in REACH} | {
        "circle": len(circles(import_arrows(modules))),
        "class name used again": len(shared),
        "mypy": None,
        "density": density(modules),
    }


def main(root: Path = ROOT) -> dict:
    """The value is the number of figures that miss their reach, as mypy's does without mypy."""
    modules = read_modules(root, PACKAGES)
    figures = count_figures(modules)
    if has_mypy():
        figures["mypy"] = len(mypy_errors(root))
    else:
        print("mypy is not installed: pip install -e '.[dev]'", file=sys.stderr)
    missed = []
    for kind, reach in REACH.items():
        figure = figures[kind]
        if figure is None or figure > reach:
            missed.append(kind)
    return {
        "name": NAME,
        "value": len(missed),
        "reach": 0,
        "holds": not missed,
        "missed": missed,
        "figures": figures,
        "reaches": REACH,
        "circles_of_imports_that_run": len(circles(import_arrows(modules, "running"))),
        "circles_of_imports_at_start": len(circles(import_arrows(modules, "starting"))),
        "long_functions_without_their_docstring": sum(
            _count_lines(function) - _docstring_lines(function) > LINES
            for module in modules
            for function in _functions(module)
        ),
        "public_definitions": sum(1 for module in modules for _ in public_definitions(module)),
        "modules": len(modules),
    }


def list_offences(arguments: Sequence[str] | None = None) -> int:
    """Print the offences below the paths that a user typed; the exit code is 1 where any are."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.house", description=list_offences.__doc__
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, help="files and folders; all packages where none is given"
    )
    parser.add_argument(
        "--mypy", action="store_true", help="also run mypy over the packages, which takes minutes"
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of the packages")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    offences = find_offences(read_modules(root, PACKAGES))
    if options.mypy:
        offences = sorted(offences + mypy_errors(root))
    folders = [path.resolve() for path in options.paths] or [root]
    count = 0
    for offence in offences:
        if any((root / offence.path).is_relative_to(folder) for folder in folders):
            print(offence)
            count += 1
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(list_offences())
