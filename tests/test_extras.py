"""A missing optional dependency is reported in one wording, and only when it is really missing.

Each import runs in a new interpreter, where nothing has been imported before.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from fastkit._extras import requires

# Blocks of today and what each needs beyond the core: block, title, module, what installs it.
OPTIONAL = [
    ("fastkit.auth", "PyJWT", "jwt", "pyjwt"),
    ("fastkit.auth", "python-multipart", "python_multipart", "python-multipart"),
    ("fastkit.db", "SQLAlchemy", "sqlalchemy", "sqlalchemy[asyncio]"),
    ("fastkit.websockets.redis", "redis", "redis", "redis"),
]


def run(code: str, *, hide: str | None = None, first: Path | None = None) -> str:
    """Run `code` in a new interpreter and return what it wrote to its standard error.

    `hide` names a module that the interpreter does not find, as if it were not installed; the
    modules in the folder `first` come before the installed ones.
    """
    hiding = f"""
import sys
class Hidden:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == {hide!r} or name.startswith("{hide}."):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden)
"""
    search = f"import sys; sys.path.insert(0, {str(first)!r})\n" if first else ""
    program = (hiding if hide else "") + search + code
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    ).stderr


@pytest.mark.parametrize(("block", "title", "module", "install"), OPTIONAL)
def test_a_missing_dependency_names_itself_and_its_remedy(
    block: str, title: str, module: str, install: str
) -> None:
    last_line = run(f"import {block}", hide=module).splitlines()[-1]
    assert last_line == (
        f"ModuleNotFoundError: {block} needs {title}, which is not installed."
        f' Install it with: pip install "{install}"'
    )


@pytest.mark.parametrize(("block", "module"), [(block, module) for block, _, module, _ in OPTIONAL])
def test_a_broken_dependency_is_not_reported_as_missing(
    block: str, module: str, tmp_path: Path
) -> None:
    (tmp_path / module).mkdir()
    (tmp_path / module / "__init__.py").write_text("import a_dependency_of_its_own")
    last_line = run(f"import {block}", first=tmp_path).splitlines()[-1]
    assert last_line == "ModuleNotFoundError: No module named 'a_dependency_of_its_own'"


@pytest.mark.parametrize(
    ("block", "module"), [("fastkit.auth", "jwt"), ("fastkit.db", "sqlalchemy")]
)
def test_a_dependency_without_its_submodules_is_not_reported_as_missing(
    block: str, module: str, tmp_path: Path
) -> None:
    (tmp_path / f"{module}.py").touch()
    last_line = run(f"import {block}", first=tmp_path).splitlines()[-1]
    assert "is not installed" not in last_line
    assert module in last_line


@pytest.mark.parametrize("error", [ModuleNotFoundError, ImportError])
def test_the_error_can_be_caught_as_what_python_raises_itself(error: type[ImportError]) -> None:
    with (
        pytest.raises(error, match=r"fastkit\.gold needs Gold, which is not installed") as caught,
        requires("Gold", by="fastkit.gold", module="no_such_gold", install="gold[full]"),
    ):
        __import__("no_such_gold")
    assert caught.value.name == "no_such_gold"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_other_errors_pass_unchanged() -> None:
    with (
        pytest.raises(ModuleNotFoundError, match=r"^No module named 'no_such_silver'$"),
        requires("Gold", by="fastkit.gold", module="no_such_gold", install="gold[full]"),
    ):
        __import__("no_such_silver")
    with (
        pytest.raises(ImportError, match="cannot import name"),
        requires("Gold", by="fastkit.gold", module="no_such_gold", install="gold[full]"),
    ):
        raise ImportError("cannot import name 'x' from 'no_such_gold'", name="no_such_gold")


def test_nothing_changes_where_the_dependency_is_installed() -> None:
    with requires("JSON", by="fastkit.gold", module="json", install="json"):
        import json
    assert json.loads("1") == 1
