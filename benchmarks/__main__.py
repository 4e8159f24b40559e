"""Run benchmarks, print what they found, and keep it in `benchmarks/results`."""

import argparse
import asyncio
import sys
from pathlib import Path

from benchmarks import auth, db, errors, filtering, imports, pagination, timing, websockets
from benchmarks.harness import pin

RESULTS = Path(__file__).parent / "results"
BENCHMARKS = {
    "errors": errors.measure,
    "timing": timing.measure,
    "db": db.measure,
    "pagination": pagination.measure,
    "filtering": filtering.measure,
    "auth": auth.measure,
    "websockets": websockets.measure,
    "imports": imports.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(BENCHMARKS)}")
    names: list[str] = parser.parse_args().names or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    pin()
    broken: list[str] = []
    for name in names:
        report = asyncio.run(BENCHMARKS[name]())
        if report.broken:
            print(f"{name}: measured once more, for too slow: {'; '.join(report.broken)}\n")
            report = asyncio.run(BENCHMARKS[name]())
        print(report)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.txt").write_text(str(report), encoding="utf-8")
        broken += report.broken
    for line in broken:
        print(f"does not hold: {line}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
