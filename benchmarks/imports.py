"""Import times: what each block adds where FastAPI, or SQLAlchemy too, is imported already.

Each time is that of a new interpreter, with all bytecode at hand. A block's own time includes the
other blocks that it imports.
"""

import os
import subprocess
import sys
from pkgutil import iter_modules
from tempfile import TemporaryDirectory

import fastkit
from benchmarks.harness import Limit, Line, Report, Table

TITLE = "Import times over import fastapi"
PACKAGES = ("fastkit", "fastapi", "starlette", "pydantic", "sqlalchemy")
ROUNDS = 31
LIMIT = Limit(15, 5)

# What is imported before a block, whose own time that would be otherwise.
WITH_SQLALCHEMY = "fastapi, sqlalchemy.ext.asyncio"
BEFORE: dict[str, str] = {
    # Whatever serves an app has imported asyncio.
    "auth": "asyncio, fastapi, jwt, bcrypt, python_multipart",
    "db": WITH_SQLALCHEMY,
    "filtering": WITH_SQLALCHEMY,
}
BLOCKS = {
    module.name: BEFORE.get(module.name, "fastapi")
    for module in iter_modules(fastkit.__path__)
    if not module.name.startswith("_")
}

PROGRAM = """
from time import process_time
started = process_time()
import {before}
between = process_time()
import fastkit.{block}
print(between - started, process_time() - between)
"""


def import_times(block: str, bytecode: str) -> tuple[float, float]:
    """The seconds of a new interpreter for what comes before the block, and for the block.

    Modules that the folder `bytecode` lacks are compiled into it.
    """
    program = PROGRAM.format(before=BLOCKS[block], block=block)
    command = [sys.executable, "-P", "-c", program]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    output = subprocess.run(  # noqa: S603 -- this very Python
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    before, own = map(float, output.split())
    return before, own


async def measure() -> Report:
    report = Report(TITLE, PACKAGES)
    found: dict[str, list[tuple[float, float]]] = {block: [] for block in BLOCKS}
    with TemporaryDirectory() as bytecode:
        for block in BLOCKS:
            import_times(block, bytecode)
        for _ in range(ROUNDS):
            for block, times in found.items():
                times.append(import_times(block, bytecode))
    report.tables = [
        Table(
            "added by the block",
            "ms",
            [
                Line(f"fastkit.{block}", [own * 1000 for _, own in times], LIMIT)
                for block, times in found.items()
            ],
        ),
        Table(
            "with the block, beside without",
            "ratio",
            [
                Line(
                    f"fastkit.{block}, over {BLOCKS[block]}",
                    [1 + own / before for before, own in times],
                )
                for block, times in found.items()
            ],
        ),
    ]
    return report
