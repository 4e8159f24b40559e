"""Every gate of the project: `nox` runs them, with tests on each Python that is found.

The tests run against the wheel, in an environment made for each session. A session that is asked
for by name and cannot run is a failure.
"""

import shutil
import subprocess
import tomllib
import zipfile
from email.parser import Parser
from itertools import chain
from pathlib import Path

import nox
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DIST = ROOT / ".nox" / "dist"
BUILT: list[Path] = []

FLOOR = "3.11"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# Route templates are found another way on each side of 0.137; both ends of the range have legs of
# their own.
FASTAPIS = ("0.136", "0.137")
# Blocks whose tests cannot run without an extra.
EXTRA_BLOCKS = ("auth", "db", "filtering")
# The two packages that are imported as passlib, and each bcrypt that they have to work with.
PASSLIBS = ("passlib", "libpass")
BCRYPTS = ("4.0", "4.3", "5.0")

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = True


def runs(python: str) -> bool:
    """Whether that Python starts: a pyenv shim is on the path without being able to."""
    command = shutil.which(f"python{python}")
    if command is None:
        return False
    return subprocess.run([command, "-c", ""], capture_output=True, check=False).returncode == 0


# Python 3.11 hangs when a dead thread's greenlet is dropped under a tracer that watches greenlets.
COVERED = next((python for python in ("3.13", "3.12", "3.14") if runs(python)), "3.13")

nox.options.sessions = [
    "lint",
    "typing",
    "build",
    "newest",
    "coverage",
    "lowest",
    *[f"tests-{python}" for python in PYTHONS if python not in (FLOOR, COVERED) and runs(python)],
    "fastapi",
    "passlib",
    "bare",
    "docs",
]


def build_wheel(session: nox.Session) -> Path:
    """Build the wheel, once for all sessions of this run."""
    if not BUILT:
        shutil.rmtree(DIST, ignore_errors=True)
        session.run_install("uv", "build", "--quiet", f"--out-dir={DIST}", str(ROOT))
        BUILT.extend(DIST.glob("*.whl"))
    return BUILT[0]


def install(
    session: nox.Session, *groups: str, extra: str = "[all]", also: tuple[str, ...] = ()
) -> None:
    wheel = f"fastkit{extra} @ {build_wheel(session).as_uri()}"
    session.install(wheel, *also, *[f"--group={group}" for group in groups])


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests at the newest versions."""
    install(session, "test", "drivers", "companions", "demo", "integration")
    session.run("pytest", "-nauto", *session.posargs)


@nox.session(python=FLOOR)
def newest(session: nox.Session) -> None:
    """All tests at the newest versions, on the oldest Python."""
    install(session, "test", "drivers", "companions", "demo", "integration")
    session.run("uv", "pip", "list")
    session.run("pytest", "-nauto", *session.posargs)


@nox.session(python=COVERED)
def coverage(session: nox.Session) -> None:
    """The tests of the package take every branch of it."""
    install(session, "test", "drivers", "companions", "demo", "integration", "coverage")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-nauto", "tests", *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session(python=FLOOR)
def lowest(session: nox.Session) -> None:
    """All tests at the floor of each dependency and driver."""
    lowered = ["--resolution=lowest-direct", "--requirements=pyproject.toml", "--all-extras"]
    session.install(*lowered, "--group=drivers")
    frozen = session.run("uv", "pip", "freeze", "--quiet", silent=True) or ""
    session.log(frozen)
    check_floors(session, dict(line.split("==") for line in frozen.splitlines()))
    # The tools are the newest that leave the floors where they are.
    pins = Path(session.create_tmp(), "pins.txt")
    pins.write_text(frozen)
    session.install(f"--constraints={pins}", "--group=test", "--group=demo", "--group=integration")
    session.install("--no-deps", str(build_wheel(session)))
    session.run("pytest", "-nauto", *session.posargs)


def check_floors(session: nox.Session, installed: dict[str, str]) -> None:
    """Fail if a floor is not what was installed, for then nothing tests it."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    drivers = PROJECT["dependency-groups"]["drivers"]
    for line in chain(PROJECT["project"]["dependencies"], *extras, drivers):
        needed = Requirement(line)
        if needed.name != "fastkit":
            (floor,) = needed.specifier
            if Version(installed[needed.name]) != Version(floor.version):
                session.error(f"{line} was tested with {installed[needed.name]}, not its floor")


@nox.session
@nox.parametrize("version", FASTAPIS, ids=FASTAPIS)
def fastapi(session: nox.Session, version: str) -> None:
    """The blocks that read FastAPI's routes, on the versions where those changed."""
    install(session, "test", "drivers", also=(f"fastapi=={version}.*",))
    session.run(
        "pytest",
        "-nauto",
        "tests/timing",
        "tests/errors",
        "tests/request_id",
        *[f"tests/auth/test_{name}.py" for name in ("scheme", "users", "websocket")],
        *session.posargs,
    )


@nox.session
@nox.parametrize("bcrypt", BCRYPTS, ids=BCRYPTS)
@nox.parametrize("name", PASSLIBS, ids=PASSLIBS)
def passlib(session: nox.Session, name: str, bcrypt: str) -> None:
    """passlib and its fork, with each bcrypt that they meet."""
    install(session, "test", also=(name, f"bcrypt=={bcrypt}.*"))
    session.run("pytest", "tests/auth/test_passlib.py", *session.posargs)


@nox.session
def bare(session: nox.Session) -> None:
    """Without extras the core works, and each other block says what it needs."""
    install(session, "test", extra="")
    absent = "import importlib.util as u, sys; sys.exit(u.find_spec('sqlalchemy') is not None)"
    session.run("python", "-c", absent)
    ignored = [f"--ignore=tests/{block}" for block in EXTRA_BLOCKS]
    # No driver is installed either, so no service can be required.
    optional = {"FASTKIT_REQUIRE_SERVICES": "0"}
    session.run("pytest", "-nauto", "tests", *ignored, *session.posargs, env=optional)


@nox.session
def docs(session: nox.Session) -> None:
    """The code in README and docs runs."""
    install(session, "test", "drivers", "demo")
    session.run("pytest", "README.md", "docs", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff finds nothing and would format nothing."""
    session.install("--group=lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def typing(session: nox.Session) -> None:
    """Mypy and pyright, both strict, accept everything; every public name has a type."""
    install(session, "dev")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--ignoreexternal", "--verifytypes", "fastkit")


@nox.session
def build(session: nox.Session) -> None:
    """The wheel holds the package and nothing else, and cannot be uploaded by mistake."""
    session.install("--group=build")
    wheel = build_wheel(session)
    session.run("twine", "check", "--strict", *map(str, DIST.glob("fastkit-*")))
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        classifiers = Parser().parsestr(archive.read(metadata).decode()).get_all("Classifier", [])
    files = (ROOT / "src").rglob("*")
    sources = {path.relative_to(ROOT / "src").as_posix() for path in files if path.is_file()}
    expected = {name for name in sources if not name.endswith(".pyc")}
    if names != expected:
        session.error(f"the wheel and src differ in {sorted(names ^ expected)}")
    if "Private :: Do Not Upload" not in classifiers:
        session.error("the wheel could be uploaded to the index")
