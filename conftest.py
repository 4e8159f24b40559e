"""The Python blocks of README and docs, run in order as tests: the blocks of a page share names."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

_ROOT = Path(__file__).resolve().parent
_KEY = "__folder__"


def _enter_new_folder(names: dict[str, Any]) -> None:
    # A page may open `sqlite:///shop.db`, which is not to appear in the checkout.
    names[_KEY] = folder = TemporaryDirectory()
    os.chdir(folder.name)


def _leave_folder(names: dict[str, Any]) -> None:
    os.chdir(_ROOT)
    names[_KEY].cleanup()


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser(language="python", evaluator=PythonEvaluator())],
    patterns=["README.md", "docs/*.md"],
    setup=_enter_new_folder,
    teardown=_leave_folder,
).pytest()
