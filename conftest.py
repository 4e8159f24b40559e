"""The Python blocks of README and docs, run in order as tests: the blocks of a page share names."""

import gc
import os
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import CodeBlockParser

_ROOT = Path(__file__).resolve().parent
_KEY = "__folder__"
# An app on a page has no end and leaves its connections to the collector: Python 3.13 tells of it.
_LEFT_OPEN = "unclosed database"


def _enter_new_folder(names: dict[str, Any]) -> None:
    # A page may open `sqlite:///shop.db`, which is not to appear in the checkout.
    names[_KEY] = folder = TemporaryDirectory()
    # Otherwise classes of a page are builtins, whose attributes Pydantic does not read.
    names["__name__"] = "__main__"
    os.chdir(folder.name)


def _leave_folder(names: dict[str, Any]) -> None:
    os.chdir(_ROOT)
    folder = names[_KEY]
    names.clear()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _LEFT_OPEN, ResourceWarning)
        gc.collect()
    folder.cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, SybilItem):
            item.add_marker(pytest.mark.filterwarnings(f"ignore:{_LEFT_OPEN}:ResourceWarning"))


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser(language="python", evaluator=PythonEvaluator())],
    patterns=["README.md", "docs/*.md"],
    setup=_enter_new_folder,
    teardown=_leave_folder,
).pytest()
