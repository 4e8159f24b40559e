"""The rules of the house that hold for every block, checked on the sources."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastkit
from tests.support import ROOT

SOURCE = ROOT / "src" / "fastkit"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OUR_DEPENDENCIES = ("fastapi", "pydantic", "pydantic_core", "sqlalchemy", "starlette")

# Which block may import which, beyond the helpers all share (`fastkit._extras` and so on): any
# block knows the core ones, but `errors` knows none. An arrow that is not here is a mistake.
CORE = {"errors", "lifespan", "pagination", "request_id", "timing"}
# Blocks that an arrow joins are one where they need to be: their private modules are theirs both.
ARROWS = {("auth", "db"), ("db", "filtering"), ("db", "pagination")}
# What a block may import beyond the core's dependencies: what its extra installs.
CORE_DEPENDENCIES = {"anyio", "fastapi", "pydantic", "pydantic_core", "starlette"}
EXTRA_DEPENDENCIES = {
    "auth": {"bcrypt", "cryptography", "jwt", "passlib", "redis", "sqlalchemy"},
    "db": {"sqlalchemy"},
    "filtering": {"sqlalchemy"},
    "websockets": {"redis"},
}
# Of an arrow or a package that only one module of a block knows.
ONLY_IN = {"fastkit.db": "fastkit.auth.sql", "sqlalchemy": "fastkit.auth.sql"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


MODULES = dict(modules())
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
PUBLIC = [name for name in MODULES if not any(part.startswith("_") for part in name.split("."))]
every_module = pytest.mark.parametrize("module", MODULES)
every_public_module = pytest.mark.parametrize("module", PUBLIC)


def block_of(module: str) -> str:
    """The block a module of ours belongs to: `fastkit.db._unit` to `db`, `fastkit` itself to ``."""
    return module.partition(".")[2].partition(".")[0]


def imports(module: str) -> Iterator[tuple[str, str | None, int]]:
    """Yield each import as (module, name or None, line)."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively"
            assert node.module is not None
            yield from ((node.module, alias.name, node.lineno) for alias in node.names)


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def load(module: str) -> ModuleType:
    loaded: ModuleType = pytest.importorskip(module, reason="its extra is not installed")
    return loaded


def test_importing_fastkit_imports_no_block_and_no_dependency() -> None:
    code = (
        "import sys; before = set(sys.modules); import fastkit; print(*set(sys.modules) - before)"
    )
    command = [sys.executable, "-c", code]
    new = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert new == ["fastkit"]


@every_module
def test_each_module_declares_its_public_names_as_a_tuple(module: str) -> None:
    values = [
        node.value
        for node in TREES[module].body
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    ]
    assert len(values) == 1
    assert isinstance(values[0], ast.Tuple)


@every_public_module
def test_public_names_exist_and_no_public_definition_is_left_out(module: str) -> None:
    loaded = load(module)
    names = set(loaded.__all__)
    assert {name for name in names if not hasattr(loaded, name)} == set()
    assert {name for name in names if is_private(name)} == set()
    defined = set(chain.from_iterable(definitions(node) for node in TREES[module].body))
    if MODULES[module].name == "__init__.py":
        defined |= {
            name
            for source, name, _ in imports(module)
            if name and (source == module or source.startswith(f"{module}."))
        }
    assert {name for name in defined if not name.startswith("_")} <= names


def definitions(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


@every_public_module
def test_the_public_api_has_docstrings(module: str) -> None:
    loaded = load(module)
    assert loaded.__doc__
    undocumented = [
        label
        for name in loaded.__all__
        for label, item in documentable(name, getattr(loaded, name))
        if not inspect.getdoc(item)
    ]
    assert undocumented == []


def documentable(name: str, item: object) -> Iterator[tuple[str, object]]:
    """Yield what a docstring is owed: classes of ours with their methods, and functions."""
    if inspect.isclass(item) and item.__module__.startswith("fastkit"):
        yield name, item
        for key, member in vars(item).items():
            is_method = inspect.isfunction(member) or isinstance(
                member, property | classmethod | staticmethod
            )
            if is_method and not key.startswith("_"):
                yield f"{name}.{key}", member
    elif inspect.isfunction(item):
        yield name, item


# `Select[*Ts]` cannot be evaluated on SQLAlchemy 2.0. The module defines no endpoint.
UNEVALUATED = {"fastkit.db._paginate", "fastkit.pagination._sequence"}


@every_module
def test_annotations_are_evaluated(module: str) -> None:
    # Under the future import FastAPI reads an `Annotated` alias local to a function as a query
    # parameter.
    found = [line for source, _, line in imports(module) if source == "__future__"]
    assert bool(found) == (module in UNEVALUATED)


@every_module
def test_nothing_private_of_a_dependency_is_imported(module: str) -> None:
    private = [
        (source, name, line)
        for source, name, line in imports(module)
        if source.partition(".")[0] in OUR_DEPENDENCIES
        and (any(map(is_private, source.split("."))) or (name and is_private(name)))
    ]
    assert private == []


# Public, although they begin with an underscore.
PUBLIC_ATTRIBUTES = {"_asdict", "_mapping", "_replace"}


@every_module
def test_no_private_attribute_of_a_dependency_is_read(module: str) -> None:
    block = [tree for name, tree in TREES.items() if block_of(name) == block_of(module)]
    ours = set(chain.from_iterable(map(own_attributes, block))) | PUBLIC_ATTRIBUTES
    foreign = [
        (node.attr, node.lineno)
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in ours
    ]
    assert foreign == []


def own_attributes(tree: ast.Module) -> Iterator[str]:
    """Yield the private names that the module gives to functions, classes and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}:
                yield node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


@every_module
def test_a_block_imports_only_what_it_may_know(module: str) -> None:
    block = block_of(module)
    standard = sys.stdlib_module_names
    known = standard | CORE_DEPENDENCIES | EXTRA_DEPENDENCIES.get(block, set())
    for source, name, line in imports(module):
        package = source.partition(".")[0]
        where = f"{module}:{line} imports {source}"
        if block == "auth":
            assert ONLY_IN.get(source if package == "fastkit" else package, module) == module, where
        if package != "fastkit":
            assert package in known, where
            continue
        imported = f"{source}.{name}" if f"{source}.{name}" in MODULES else source
        other = block_of(imported)
        if other == block or other.startswith("_"):
            continue
        assert other != "testing", where
        if (block, other) in ARROWS:
            continue
        assert other in CORE, where
        assert block != "errors", where
        assert not any(map(is_private, imported.split("."))), f"{where}, which is private"


def test_no_two_blocks_import_each_other() -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        others = {block_of(source) for source, _, _ in imports(module) if "fastkit." in source}
        graph.setdefault(block_of(module), set()).update(others - {block_of(module)})
    assert list(TopologicalSorter(graph).static_order())


@every_module
def test_modules_and_functions_stay_small(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= 400
    long = [
        (node.name, length)
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := code_lines(node)) > 60
    ]
    assert long == []


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function without its decorators and its docstring."""
    assert node.end_lineno is not None
    length = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is not None:
        assert node.body[0].end_lineno is not None
        length -= node.body[0].end_lineno - node.body[0].lineno + 1
    return length


IMPORTED_AS = {"pyjwt": "jwt"}


def test_every_import_is_of_a_declared_dependency() -> None:
    extras = PROJECT["optional-dependencies"]
    declared = {requirement(line)[0] for line in chain(PROJECT["dependencies"], *extras.values())}
    imported = {source.partition(".")[0] for module in MODULES for source, _, _ in imports(module)}
    declared = {IMPORTED_AS.get(name, name) for name in declared}
    # pydantic-core is released with Pydantic, in one version each.
    assert imported - sys.stdlib_module_names - {"fastkit", "pydantic_core"} <= declared


def requirement(line: str) -> tuple[str, str]:
    """Split `sqlalchemy[asyncio]>=2.0` into its import name and its floor."""
    found = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?(?:>=([\d.]+))?", line)
    assert found is not None, f"{line!r} has a form that the project does not use"
    return found[1].replace("-", "_"), found[2] or ""


HIDDEN_BUT_OURS = {".ci", ".editorconfig", ".github", ".gitignore"}
GENERATED = {"__pycache__", "build", "dist", "results"}
TEXT = {".cfg", ".css", ".html", ".js", ".md", ".py", ".toml", ".yml"}
TEXT_NAMES = {".editorconfig", ".gitignore", "LICENSE", "Makefile", "run"}


def texts(folder: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Yield the project's text files, whatever they are."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") and path.name not in HIDDEN_BUT_OURS:
            continue
        if path.is_dir() and path.name not in GENERATED:
            yield from texts(path)
        elif path.suffix in TEXT or path.name in TEXT_NAMES:
            yield path, path.read_text()


def test_nobody_is_told_to_install_another_project_of_our_name() -> None:
    # The index's project of this name is another author's. A wheel's path and a direct reference
    # (`fastkit @ file:...`) are right, the bare name is not.
    installer = r"(?:pip3?|pipx|uv|uv pip|poetry|pdm|conda)"
    bare = re.compile(rf"{installer} (?:install|add)\b[^\n`]*?[\s\"']fastkit(?![-\w/.])(?!\S* @)")
    found = [(str(path), match[0]) for path, text in texts() for match in bare.finditer(text)]
    assert found == []


def test_no_package_registry_is_named() -> None:
    hosts = (
        "pypi" + ".org",
        "python" + "hosted",
        "npm" + "js.",
        "deb.debian" + ".org",
        "index" + "-url",
    )
    found = [(str(path), host) for path, text in texts() for host in hosts if host in text]
    assert found == []


def test_the_newest_release_in_the_changelog_is_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\](?: - \d{4}-\d\d-\d\d)?$", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1:2] in ([], [fastkit.__version__])


PAGES = [
    path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if path.exists()
]
every_page = pytest.mark.parametrize("page", PAGES, ids=[path.name for path in PAGES])


def test_the_versions_that_readme_supports_are_the_floors() -> None:
    extras = PROJECT["optional-dependencies"]
    floors = dict(requirement(line) for line in chain(PROJECT["dependencies"], *extras.values()))
    floors["python"] = PROJECT["requires-python"].removeprefix(">=")
    stated = re.compile(r"\b([A-Z]\w+) (?:from )?(\d+(?:\.\d+)*) (?:on|or newer|and newer)\b")
    found = stated.findall((ROOT / "README.md").read_text())
    assert {name for name, _ in found} >= {"Python", "FastAPI"}
    assert [pair for pair in found if floors[pair[0].lower()] != pair[1]] == []


@every_page
def test_code_blocks_are_marked_by_what_they_are(page: Path) -> None:
    # Only blocks marked exactly `python` are run, so a mark that resembles it would hide a block.
    fences = re.findall(r"^ *```(.*)$", page.read_text(), re.MULTILINE)
    assert len(fences) % 2 == 0
    assert set(fences[::2]) <= {"console", "http", "json", "python", "sh", "text", "toml"}
    assert set(fences[1::2]) <= {""}


@every_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
