"""Who may import whom, what stays behind which door, and how long things may be.

Read from the syntax trees, so nothing is imported and a deferred import counts as any other.
"""

import ast
import graphlib
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ROOMS = {
    "models": (),
    "training": ("hone.models",),
    "comparison": ("hone.models",),
    "service": (
        "hone.models",
        "hone.comparison.prices",
        "hone.comparison.statistics",
        "hone.comparison.assignment",
    ),
}
"""What each room may import besides itself. Only the command line knows all of them."""

DOORS = {
    "hone.training": {
        "torch",
        "transformers",
        "peft",
        "accelerate",
        "onnx",
        "onnxscript",
        "onnxruntime_genai",
    },
    "hone.service": {"fastapi", "starlette", "uvicorn", "prometheus_client"},
}
"""The one room that each of these libraries may be imported in."""

DEFERRED_IN = {"cli", "command"}
"""Modules of commands: they import what a command needs when it is called, so that `hone --help`
does not wait for torch."""

DEFERRED = {
    "hone.service.jobs.revisions": {"alembic"},
    "hone.training.generation.optimizers": {"bitsandbytes"},
    "hone.training.preparation.encoding": {"charset_normalizer"},
    "hone.training.preparation.parquet": {"polars"},
    "hone.training.preparation.spreadsheet": {"openpyxl"},
}
"""Readers of one kind of file, whose library is of an extra and needed for that kind alone; and
the migrations, which few starts need."""

ENVIRONMENT = {"environ", "environb", "getenv"}

VAGUE_NAMES = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "manager",
    "managers",
    "base",
    "misc",
}

LIBRARY_SWITCHES = {
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY",
    "ORT_DISABLE_TELEMETRY",
    "TOKENIZERS_PARALLELISM",
}
"""Variables that only a library reads: a default may be set for it wherever it is imported."""

MOST_LINES, MOST_FUNCTION_LINES = 400, 60

IMPORT_NAMES = {"scikit_learn": "sklearn", "pillow": "PIL", "pyyaml": "yaml"}
"""Where a distribution is imported by another name than its own."""

PINNED_BY_ANOTHER = {"pydantic_core"}
"""Pydantic names the one version of it that it works with; a bound of ours could only clash."""


@dataclass(frozen=True)
class Import:
    """One imported name, absolute: `hone.models.errors.NotFound`."""

    target: str
    line: int
    deferred: bool
    typing_only: bool

    @property
    def library(self) -> str:
        return self.target.partition(".")[0]

    def within(self, *packages: str) -> bool:
        return any(self.target == p or self.target.startswith(f"{p}.") for p in packages)


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    name: str
    source: str
    is_package: bool = False

    @property
    def room(self) -> str:
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 and parts[1] in ROOMS else ""

    @property
    def last_name(self) -> str:
        return self.name.rpartition(".")[2]

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @cached_property
    def imports(self) -> list[Import]:
        return list(self._imports(self.tree, deferred=False, typing_only=False))

    def _imports(self, node: ast.AST, *, deferred: bool, typing_only: bool) -> Iterator[Import]:
        for target in self._targets(node):
            yield Import(target, getattr(node, "lineno", 0), deferred, typing_only)
        inside = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            guarded = isinstance(node, ast.If) and _is_type_checking(node.test)
            only = typing_only or (guarded and child in getattr(node, "body", []))
            yield from self._imports(child, deferred=inside, typing_only=only)

    def _targets(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            parent = self._absolute(node)
            yield from (f"{parent}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            named = [argument for argument in node.args[:1] if isinstance(argument, ast.Constant)]
            yield from (str(argument.value) for argument in named)

    def _absolute(self, node: ast.ImportFrom) -> str:
        above = self.name.split(".")
        if node.level:
            above = above[: len(above) - node.level + self.is_package]
            return ".".join([*above, node.module] if node.module else above)
        return node.module or ""


Modules = dict[str, Module]
Rule = Callable[[Modules], Iterator[str]]


def _is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in {getattr(test, "id", ""), getattr(test, "attr", "")}


def _called(call: ast.Call) -> str:
    return str(getattr(call.func, "id", getattr(call.func, "attr", "")))


def _each_import(modules: Modules) -> Iterator[tuple[Module, Import]]:
    for module in modules.values():
        for found in module.imports:
            yield module, found


def rooms_keep_to_themselves(modules: Modules) -> Iterator[str]:
    for module, found in _each_import(modules):
        if found.library != "hone" or module.name == "hone.cli":
            continue
        allowed = ROOMS.get(module.room, ())
        own = f"hone.{module.room}" if module.room else "hone.cli"
        version = found.target in {"hone", "hone.__version__"}
        if not version and not found.within(own, *allowed):
            yield f"{module.name}:{found.line} imports {found.target}"


def libraries_have_one_door(modules: Modules) -> Iterator[str]:
    for module, found in _each_import(modules):
        for door, libraries in DOORS.items():
            if found.library in libraries and not f"{module.name}.".startswith(f"{door}."):
                yield f"{module.name}:{found.line} imports {found.library}, which is for {door}"


def only_settings_read_the_environment(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        if module.last_name in {"settings", "cli"}:
            continue
        for found in module.imports:
            if found.library == "pydantic_settings" or found.within("os.environ", "os.getenv"):
                yield f"{module.name}:{found.line} imports {found.target}"
        switches = set(_library_switches(module.tree))
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and node not in switches:
                read = ENVIRONMENT & {node.attr}
                yield from (f"{module.name}:{node.lineno} reads {name}" for name in read)


def _library_switches(tree: ast.Module) -> Iterator[ast.expr]:
    """Find `os.environ` in `os.environ.setdefault("A_SWITCH", ...)`."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _called(call) == "setdefault" and call.args:
            named = getattr(call.args[0], "value", None)
            if named in LIBRARY_SWITCHES and isinstance(call.func, ast.Attribute):
                yield call.func.value


def _known(target: str, modules: Modules) -> str | None:
    parts = target.split(".")
    prefixes = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in modules), None)


def nothing_imports_in_circles(modules: Modules) -> Iterator[str]:
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for module, found in _each_import(modules):
        target = _known(found.target, modules)
        if target and not found.typing_only and target != "hone":
            sorter.add(module.name, target)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        yield " imports ".join(reversed(error.args[1]))


def imports_stand_at_the_top(modules: Modules) -> Iterator[str]:
    for module, found in _each_import(modules):
        excused = module.last_name in DEFERRED_IN or found.library in DEFERRED.get(module.name, ())
        if found.deferred and not excused:
            yield f"{module.name}:{found.line} imports {found.target} inside a function"


def modules_are_named_for_what_they_are(modules: Modules) -> Iterator[str]:
    for name in modules:
        if VAGUE_NAMES & set(name.split(".")):
            yield f"{name} has a name that says nothing"


def files_and_functions_are_short(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        lines = len(module.source.splitlines())
        if lines > MOST_LINES:
            yield f"{module.name} has {lines} lines"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                # A command's parameters declare its options: a table, and no part of the work.
                start = node.body[0] if module.last_name in DEFERRED_IN else node
                length = (node.end_lineno or start.lineno) - start.lineno + 1
                if length > MOST_FUNCTION_LINES:
                    yield f"{module.name}:{node.lineno} {node.name} has {length} lines"


def declared(*extras: str) -> set[str]:
    """Return the import names of the core's dependencies and of some extras'."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][e] for e in extras)]
    names = (re.split(r"[^A-Za-z0-9._-]", entry)[0] for group in groups for entry in group)
    plain = {name.lower().replace("-", "_") for name in names}
    return {IMPORT_NAMES.get(name, name) for name in plain} | PINNED_BY_ANOTHER


def _reachable(modules: Modules, start: set[str], *, deferred_too: bool) -> set[str]:
    seen: set[str] = set()
    while start - seen:
        name = (start - seen).pop()
        seen.add(name)
        for found in modules[name].imports:
            target = _known(found.target, modules)
            if target and not found.typing_only and (deferred_too or not found.deferred):
                start = start | {target}
    return seen


def serving_and_starting_need_the_core_alone(modules: Modules) -> Iterator[str]:
    """Follow what the service may ever import, and what `hone --help` does at once."""
    service = {name for name in modules if modules[name].room == "service"}
    starting = {"hone.cli"} & set(modules)
    for start, deferred_too in ((service, True), (starting, False)):
        for name in sorted(_reachable(modules, start, deferred_too=deferred_too)):
            for found in modules[name].imports:
                ours = found.library in {*declared(), *sys.stdlib_module_names, "hone"}
                if not ours and not found.typing_only and (deferred_too or not found.deferred):
                    yield f"{name}:{found.line} imports {found.library}, which the core lacks"


def whatever_is_imported_is_declared(modules: Modules) -> Iterator[str]:
    known = {*declared("train", "minilm", "compare", "gpu"), *sys.stdlib_module_names, "hone"}
    for module, found in _each_import(modules):
        if found.library not in known:
            yield f"{module.name}:{found.line} imports {found.library}, which nothing declares"


RULES: list[Rule] = [
    rooms_keep_to_themselves,
    libraries_have_one_door,
    only_settings_read_the_environment,
    nothing_imports_in_circles,
    imports_stand_at_the_top,
    modules_are_named_for_what_they_are,
    files_and_functions_are_short,
    serving_and_starting_need_the_core_alone,
    whatever_is_imported_is_declared,
]


def read_package(root: Path) -> Modules:
    modules = {}
    for path in sorted((root / "hone").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules[name] = Module(name, path.read_text(encoding="utf-8"), is_package)
    return modules


@pytest.fixture(scope="module")
def package() -> Modules:
    return read_package(ROOT)


@pytest.mark.parametrize("rule", RULES)
def test_the_house_is_as_it_was_drawn(package: Modules, rule: Rule) -> None:
    found = list(rule(package))
    assert not found, "\n".join(found)


def test_every_room_was_read(package: Modules) -> None:
    assert {module.room for module in package.values()} == {"", *ROOMS}
    assert "hone.models.registry" in package


BAD: list[tuple[Rule, dict[str, str], str]] = [
    (rooms_keep_to_themselves, {"hone.models.x": "import hone.training.y"}, "hone.models.x:1"),
    (rooms_keep_to_themselves, {"hone.models.x": "from ..service import app"}, "service.app"),
    (rooms_keep_to_themselves, {"hone.training.x": "from hone.service import app"}, "service.app"),
    (rooms_keep_to_themselves, {"hone.training.x": "from hone import service"}, "hone.service"),
    (rooms_keep_to_themselves, {"hone.service.x": "def f():\n  import hone.training"}, ":2"),
    (rooms_keep_to_themselves, {"hone.service.x": "from hone.comparison import report"}, "report"),
    (rooms_keep_to_themselves, {"hone.service.x": "from hone.comparison.runner import f"}, "f"),
    (rooms_keep_to_themselves, {"hone.comparison.x": "import hone.service.app"}, "service"),
    (rooms_keep_to_themselves, {"hone.service.x": "from hone.cli import main"}, "hone.cli"),
    (rooms_keep_to_themselves, {"hone.__main__": "from hone.models import names"}, "names"),
    (libraries_have_one_door, {"hone.models.x": "def f():\n  from torch import nn"}, "torch"),
    (libraries_have_one_door, {"hone.cli": "import transformers.models"}, "transformers"),
    (libraries_have_one_door, {"hone.service.x": "import importlib\n"
     "importlib.import_module('onnx')"}, "onnx"),
    (libraries_have_one_door, {"hone.trainingx": "import torch"}, "torch"),
    (libraries_have_one_door, {"hone.models.x": "if TYPE_CHECKING:\n  import fastapi"}, "fastapi"),
    (libraries_have_one_door, {"hone.training.x": "import prometheus_client as p"}, "prometheus"),
    (only_settings_read_the_environment, {"hone.models.x": "import os\nos.environ['A']"}, ":2"),
    (only_settings_read_the_environment, {"hone.models.x": "from os import getenv"}, "getenv"),
    (only_settings_read_the_environment, {"hone.service.x": "import pydantic_settings"}, "pyd"),
    (only_settings_read_the_environment, {"hone.models.x": "import os\n"
     "os.environ.setdefault('HOME', '')"}, ":2"),
    (only_settings_read_the_environment, {"hone.models.x": "import os\n"
     "os.environ.get('TOKENIZERS_PARALLELISM')"}, ":2"),
    (nothing_imports_in_circles, {"hone.models.a": "from hone.models import b",
     "hone.models.b": "def f():\n  import hone.models.a"}, "hone.models.a imports hone.models.b"),
    (imports_stand_at_the_top, {"hone.models.x": "def f():\n  import json"}, "inside a function"),
    (imports_stand_at_the_top, {"hone.models.x": "class A:\n  async def f(self):\n"
     "    from json import loads"}, "hone.models.x:3"),
    (modules_are_named_for_what_they_are, {"hone.models.utils": ""}, "utils"),
    (modules_are_named_for_what_they_are, {"hone.common.x": ""}, "common"),
    (files_and_functions_are_short, {"hone.models.x": "x = 1\n" * 401}, "401 lines"),
    (files_and_functions_are_short, {"hone.models.x": "class A:\n  async def f(self):\n" +
     "    x = 1\n" * 60}, "f has 61 lines"),
    (serving_and_starting_need_the_core_alone, {"hone.service.x": "from hone.models import y",
     "hone.models.y": "import scipy"}, "hone.models.y:1 imports scipy"),
    (serving_and_starting_need_the_core_alone, {"hone.cli": "from hone.training import y",
     "hone.training.y": "import torch"}, "torch"),
    (whatever_is_imported_is_declared, {"hone.models.x": "import requests"}, "requests"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "sources", "finding"), BAD)
def test_a_rule_can_be_broken(rule: Rule, sources: dict[str, str], finding: str) -> None:
    found = list(rule({name: Module(name, source) for name, source in sources.items()}))
    assert len(found) == 1
    assert finding in found[0]


GOOD = {
    "hone": "__version__ = '1'",
    "hone.cli": "import os\nimport typer\ndef f():\n  import hone.training.x\nos.environ",
    "hone.models.x": "import hone\nimport json\nif TYPE_CHECKING:\n  import hone.models.y",
    "hone.models.y": "from hone.models import x\nimport os\n"
    "os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')",
    "hone.training.command": "def f(\n" + "  a,\n" * 60 + "):\n  import torch",
    "hone.training.x": "import torch\nfrom hone.models.x import a\nfrom . import settings",
    "hone.training.settings": "import os\nos.getenv('A')",
    "hone.service.x": "import fastapi\nfrom hone.comparison import prices\n" + "x = 1\n" * 390,
    "hone.comparison.prices": "def f():\n" + "  x = 1\n" * 59,
}


@pytest.mark.parametrize("rule", RULES)
def test_what_is_allowed_passes(rule: Rule) -> None:
    assert list(rule({name: Module(name, source) for name, source in GOOD.items()})) == []


def test_a_relative_import_in_a_package_is_read_from_the_package() -> None:
    inside = Module("hone.models", "from . import names\nfrom .names import A", is_package=True)
    assert [i.target for i in inside.imports] == ["hone.models.names", "hone.models.names.A"]
