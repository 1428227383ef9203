"""The import walls of the design and the ban on module-level state, read from the source of every module."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "notifier"

SIBLINGS = frozenset({"ingress", "journal", "transports", "access", "telemetry"})
ROOMS = frozenset({"core", "broker", "commands", "clients"})
MODULES = frozenset(
    {
        "settings",
        "setting_files",
        "trust",
        "tracing",
        "counts",
        "engine",
        "assets",
        "asyncapi",
        "revoking",
        "readiness",
        "public",
        "app",
        "reload",
        "server",
        "demo",
        "cli",
        "",
    }
)
ALL = SIBLINGS | ROOMS | MODULES

# What each unit may import of notifier, besides itself; "" is notifier/__init__.py, which every import runs.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "": frozenset({"clients"}),
    "core": frozenset(),
    "broker": frozenset({"core"}),
    **dict.fromkeys(SIBLINGS, frozenset({"core"})),
    "journal": frozenset({"core", "broker"}),
    "ingress": frozenset({"core", "broker"}),
    "setting_files": frozenset(),
    "settings": frozenset({"core", "setting_files"}),
    "trust": frozenset({"settings", "access", "core"}),
    "tracing": frozenset({"settings", "broker", "telemetry"}),
    "counts": frozenset({"settings", "access", "telemetry"}),
    "engine": frozenset({"settings", "broker", "journal", "ingress", "telemetry", "core"}),
    "assets": frozenset(),
    "asyncapi": frozenset({"broker", "ingress", "transports"}),
    "revoking": frozenset({"settings", "engine", "access", "journal", "ingress", "telemetry", "core"}),
    "readiness": frozenset({"access", "core", "ingress", "journal", "revoking"}),
    "public": frozenset({"app", "access", "assets", "core", "ingress", "transports"}),
    "app": ALL - {"cli", "demo", "server", "reload"},
    "reload": frozenset({"app", "broker", "settings"}),
    "server": frozenset({"app", "settings", "transports", "core", ""}),
    "demo": ALL - {"cli"},
    "cli": ALL,
    "commands": ALL - {"cli"},
    "__main__": frozenset({"cli"}),
    "clients": frozenset({""}),
}
# These never import a third party ...
STANDARD_LIBRARY_ONLY = frozenset({"core"})
# ... and these not while they are imported themselves, so that the base install starts, and starts fast. Core is light.
LIGHT_AT_IMPORT = frozenset({"", "cli", "commands", "__main__"})
LIGHT_UNITS = frozenset({"", "core", "cli", "commands"})

# fmt: off
MUTABLE_CALLS = frozenset({
    "list", "dict", "set", "bytearray", "deque", "defaultdict", "OrderedDict", "Counter", "ChainMap",
    "WeakSet", "WeakKeyDictionary", "WeakValueDictionary",
})
SERVER_ONLY = frozenset({
    "fastapi", "starlette", "uvicorn", "uvloop", "pydantic", "pydantic_settings", "jose", "slowapi", "limits",
    "prometheus_client", "structlog", "aio_pika", "aiormq", "opentelemetry", "redis",
})
# fmt: on


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name. Deferred: importing the module does not run it (inside a function, or for typing only)."""

    target: str
    line: int
    is_deferred: bool


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    """Yield every import in the file, absolute, also those in functions, under TYPE_CHECKING and by constant name."""
    package = (root.name, *path.relative_to(root).parent.parts)

    def visit(node: ast.AST, is_deferred: bool) -> Iterator[Import]:
        for target in targets_of(node, package):
            yield Import(target, getattr(node, "lineno", 0), is_deferred)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                yield from visit(statement, True)
            for statement in node.orelse:
                yield from visit(statement, is_deferred)
            return
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, is_deferred or is_function)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), False)


def targets_of(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    """Name what one node imports; `from notifier import journal` counts as notifier.journal."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            anchor = package[: len(package) - level + 1] if level else ()
            base = ".".join((*anchor, *([module] if module else [])))
            return [f"{base}.{alias.name}" for alias in names]
        case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]) if ast.unparse(function).endswith(
            ("import_module", "__import__")
        ):
            return [name]
    return []


def unit_of(parts: tuple[str, ...], root: Path) -> str:
    """Name the unit below the root a dotted name belongs to; "" for a name of notifier/__init__.py itself."""
    unit = parts[1] if len(parts) > 1 else ""
    return unit if (root / unit).is_dir() or (root / f"{unit}.py").is_file() or unit in ALL else ""


def wall_violations(root: Path) -> list[str]:
    """List every import that crosses a wall, as "file:line what is wrong"."""
    found = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        unit = "" if relative == Path("__init__.py") else Path(relative.parts[0]).stem
        if unit not in MAY_IMPORT:
            found.append(f"{relative}:1 {unit} has no rule: say in MAY_IMPORT what it may import")
            continue
        found += [
            f"{relative}:{imported.line} {reason}"
            for imported in imports_of(path, root)
            if (reason := objection(unit, imported, root))
        ]
    return found


def objection(unit: str, imported: Import, root: Path) -> str | None:
    """Say why the unit may not import this, or None where it may."""
    parts = tuple(imported.target.split("."))
    if parts[0] == root.name:
        other = unit_of(parts, root)
        if imported.target == root.name:
            return f"imports the bare {root.name}, which opens every unit: import what is needed by name"
        if other != unit and other not in MAY_IMPORT[unit]:
            return f"{unit or root.name} must not import {imported.target}"
        if unit in LIGHT_AT_IMPORT and not imported.is_deferred and other not in LIGHT_UNITS:
            return f"{unit or root.name} imports {imported.target} at import: do it in the function that needs it"
        return None
    if parts[0] in sys.stdlib_module_names:
        return None
    if unit in STANDARD_LIBRARY_ONLY:
        return f"{unit} must not import {parts[0]}: standard library only"
    if unit in LIGHT_AT_IMPORT and not imported.is_deferred:
        return f"{unit or root.name} imports {parts[0]} at import: do it in the function that needs it"
    return None


def state_violations(root: Path) -> list[str]:
    """List every mutable container bound to a name at module level, and every `global`.

    A filled container under an UPPER_CASE name is a constant table; an empty one is waiting to be filled.
    """
    found = []
    for path in sorted(root.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        where = path.relative_to(root)
        for name, value in module_level_bindings(tree):
            is_dunder = name.startswith("__") and name.endswith("__")
            if not is_dunder and is_mutable(value) and not (name.isupper() and not is_empty(value)):
                found.append(f"{where}:{value.lineno} {name} is mutable and lives as long as the process")
        found += [f"{where}:{node.lineno} global" for node in ast.walk(tree) if isinstance(node, ast.Global)]
    return found


def module_level_bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield names and values bound while the module is imported, also inside if, try, with and for."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Lambda():
                continue
            case ast.Assign(targets=targets, value=value):
                yield from ((ast.unparse(target), value) for target in targets)
            case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
                yield ast.unparse(target), value
            case _:
                yield from module_level_bindings(child)


def is_mutable(value: ast.expr) -> bool:
    match value:
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
            return True
        case ast.Call(func=function):
            return ast.unparse(function).split("[")[0].rpartition(".")[2] in MUTABLE_CALLS
    return False


def is_empty(value: ast.expr) -> bool:
    match value:
        case ast.List(elts=[]) | ast.Dict(keys=[]) | ast.Call(args=[], keywords=[]):
            return True
        case ast.Call(func=function):
            return ast.unparse(function).endswith("defaultdict")  # its argument is the factory, not content
    return False


def test_python_jose_stays_where_tokens_are_verified_and_minted() -> None:
    """Sharp edges 2.6: it can be swapped there."""
    users = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if any(found.target.split(".")[0] == "jose" for found in imports_of(path, ROOT))
    }

    assert users == {"access/tokens.py", "access/keys.py", "access/development.py"}


def test_imports_point_one_way() -> None:
    assert wall_violations(ROOT) == []


def test_no_module_holds_state() -> None:
    assert state_violations(ROOT) == []


@pytest.mark.parametrize("module", ["notifier", "notifier.cli", "notifier.clients"])
def test_base_install_imports_nothing_of_the_server(module: str) -> None:
    """A fresh interpreter, since this one has imported the server long ago."""
    code = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
    assert SERVER_ONLY & set(done.stdout.split()) == set()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """An empty package called notifier with every unit of the design."""
    root = tmp_path / "notifier"
    for name in (*SIBLINGS, "core", "clients"):
        (root / name).mkdir(parents=True)
        (root / name / "__init__.py").touch()
    for name in ("__init__", "__main__", "app", "cli", "server", "settings"):
        (root / f"{name}.py").touch()
    return root


CROSSINGS = [
    ("core/hub.py", "import httpx"),
    ("core/hub.py", "from notifier.journal.memory import MemoryJournal"),
    ("core/hub.py", "from notifier import __version__"),
    ("journal/memory.py", "from notifier import access"),
    ("journal/memory.py", "from ..access import gate"),
    ("journal/memory.py", "from .. import access"),
    ("ingress/http.py", "def handle():\n    import notifier.settings"),
    ("ingress/http.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from notifier.app import create_app"),
    ("transports/sse.py", "import importlib\nimportlib.import_module('notifier.access.gate')"),
    ("telemetry/health.py", "import notifier"),
    ("access/gate.py", "from notifier.cli import main"),
    ("settings.py", "from notifier.access import keys"),
    ("app.py", "from notifier.server import serve"),
    ("server.py", "from notifier.ingress import http"),
    ("cli.py", "import httpx"),
    ("cli.py", "from notifier.app import create_app"),
    ("cli.py", "try:\n    import uvicorn\nexcept ImportError:\n    pass"),
    ("__init__.py", "from notifier.clients import Client"),
    ("clients/python.py", "from notifier.core.notification import Notification"),
    ("helpers.py", "import os"),
]


@pytest.mark.parametrize(("file", "source"), CROSSINGS)
def test_a_crossed_wall_is_found(package: Path, file: str, source: str) -> None:
    (package / file).write_text(source)

    found = wall_violations(package)

    assert [violation.split(":")[0] for violation in found] == [file]


ALLOWED = [
    ("core/hub.py", "import asyncio\nfrom notifier.core import errors\nfrom .window import Window"),
    ("journal/memory.py", "import structlog\nfrom notifier.core.ports import Journal\nfrom . import record"),
    ("settings.py", "from pydantic import BaseModel\nfrom notifier.core import errors"),
    ("app.py", "from notifier.access import gate\nfrom notifier import telemetry, settings\nimport fastapi"),
    ("server.py", "import uvicorn\nfrom notifier.app import create_app\nfrom notifier.settings import Settings"),
    ("cli.py", "import argparse\nfrom notifier.core import errors\ndef serve():\n    from notifier import server"),
    ("cli.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from notifier.settings import Settings"),
    ("clients/python.py", "import httpx\nfrom . import errors\nfrom notifier import __version__"),
    ("__main__.py", "from notifier.cli import main"),
]


@pytest.mark.parametrize(("file", "source"), ALLOWED)
def test_an_import_along_the_arrows_is_let_pass(package: Path, file: str, source: str) -> None:
    (package / file).write_text(source)

    assert wall_violations(package) == []


@pytest.mark.parametrize(
    "source",
    [
        "sessions = {}",
        "sessions: dict[str, int] = dict()",
        "_SEEN = set()",
        "BY_USER = collections.defaultdict(list)",
        "rows = [n for n in range(3)]",
        "if True:\n    pending = deque[int](maxlen=3)",
        "def connect():\n    global connection\n    connection = 1",
    ],
)
def test_state_at_module_level_is_found(package: Path, source: str) -> None:
    (package / "app.py").write_text(source)

    assert len(state_violations(package)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "__all__ = ['x']",
        "STATUS = {1: 2}",
        "names = frozenset({'a'})",
        "def f():\n    seen = []",
        "class A:\n    b = 1",
    ],
)
def test_constants_and_locals_are_let_pass(package: Path, source: str) -> None:
    (package / "app.py").write_text(source)

    assert state_violations(package) == []
