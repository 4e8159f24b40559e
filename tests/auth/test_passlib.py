"""passlib and libpass, each with the bcrypt that is installed."""

import logging
import subprocess
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import bcrypt
import pytest

from fastkit.auth._passlib import passlib_context
from fastkit.auth._passwords import BcryptHasher, PasswordError, Passwords
from tests.auth.people import verify_by
from tests.test_extras import run

pytest.importorskip("passlib")

SECRET = "correct horse battery staple"
LONG = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 and more"
STRANGE = ["wrong", "", LONG, "x" * 10_000, "sec\0ret", "sec\ud800ret"]

# Made by passlib 1.7.4, with bcrypt 4.0.1.
BCRYPT = "$2b$04$n27TcCbtj.G5artCLgKxxOWDcLrlMKXf9Hj9Iw6Vp9sA8SyamOE.i"
BCRYPT_2Y = "$2y$04$JRYsFJREM6/pXoSOm/MjNubtHVxuCIAKS4bumIVnJUyp/f8fED3Wy"
BCRYPT_OF_LONG = "$2b$04$mDIm5VZcVu9XQzbCfY910uM4tPEitv3tjbchMPpu8Gi5ZESmqhX/K"
BCRYPT_SHA256 = "$bcrypt-sha256$v=2,t=2b,r=4$.L5of87vBv/z2b7cVyLNiu$Eu26xOpf9d6eFgE8py0XxPz1Sa6hCuq"
PBKDF2 = "$pbkdf2-sha256$10$CAEghJByjnEupTQGAEDoHQ$kV3TkEJ.NllYWMBay3r1B1sxOBvTIIqXLOb7ROML9BI"
PBKDF2_OF_LONG = (
    "$pbkdf2-sha256$10$Rag1ptQ6R6g1Rqj1vlcK4Q$zRnpKVLdiJDZW91DMpsIrcMjKL3lD4TXZjg.IfxkG.k"
)
SHA512 = (
    "$6$rounds=1000$1//gFu.dsc8QZvFb$t0DxbWIdgzYkE2yc4649q6GQTvTDAg1X29QmoD8G8/Lx4ZpVzggg5lW9szQCyO"
    "hbSyUXa2qwf.bxZ9jnT0Ep2."
)
OTHERS = ("pbkdf2_sha256", "sha512_crypt")


def is_the_broken_pair() -> bool:
    """Whether passlib's own bcrypt fails on every password."""
    try:
        return version("passlib") == "1.7.4" and int(version("bcrypt").partition(".")[0]) >= 5
    except PackageNotFoundError:  # it is libpass
        return False


def context(*others: str, **settings: Any) -> Any:
    return passlib_context(schemes=("bcrypt", *others), **{"bcrypt__rounds": 4, **settings})


def own_context(**settings: Any) -> Any:
    """A context as apps make it, without us."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from passlib.context import CryptContext
    return CryptContext(deprecated="auto", **settings)


def test_without_passlib_the_remedy_is_named() -> None:
    code = "from fastkit.auth._passlib import passlib_context; passlib_context()"
    assert run(code, hide="passlib").splitlines()[-1] == (
        "ModuleNotFoundError: passlib_context() needs passlib, which is not installed."
        ' Install it with: pip install "passlib>=1.7.4"'
    )


def test_a_broken_passlib_is_not_reported_as_missing() -> None:
    code = "from fastkit.auth._passlib import passlib_context; passlib_context()"
    last = run(code, hide="passlib.context").splitlines()[-1]
    assert last == "ModuleNotFoundError: No module named 'passlib.context'"


PROGRAM = """
import sys
from fastkit.auth._passlib import passlib_context
assert "passlib" not in sys.modules
hasher = passlib_context(schemes=("bcrypt", "pbkdf2_sha256", "sha512_crypt", "scrypt"))
assert hasher.verify_and_update("x", hasher.hash("x")) == (True, None)
hasher.verify_and_update(*sys.argv[1:])
"""


def test_passlib_is_imported_when_it_is_used_and_without_warnings_or_logs() -> None:
    command = [sys.executable, "-W", "error", "-c", PROGRAM, SECRET, SHA512]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_of_others_is_changed(caplog: pytest.LogCaptureFixture) -> None:
    before = {name: vars(bcrypt)[name] for name in ("hashpw", "checkpw", "gensalt")}
    with caplog.at_level(logging.INFO):
        hasher = context(*OTHERS)
        hasher.verify(SECRET, hasher.hash(SECRET))
    assert {name: vars(bcrypt)[name] for name in before} == before
    assert not hasattr(bcrypt, "__about__") or version("bcrypt").startswith("4.0")
    assert caplog.records == []
    ours = hasher.handler("bcrypt")
    assert own_context(schemes=["bcrypt"]).handler("bcrypt") is not ours


def test_a_new_hash_is_that_of_bcrypt() -> None:
    hasher = context()
    hashed = hasher.hash(SECRET)
    assert hashed.startswith("$2b$04$")
    assert bcrypt.checkpw(SECRET.encode(), hashed.encode())
    assert BcryptHasher(rounds=4).verify_and_update(SECRET, hashed) == (True, None)
    assert passlib_context().hash(SECRET).startswith("$2b$12$")


@pytest.mark.parametrize("hashed", [BCRYPT, BCRYPT_2Y, BCRYPT.replace("$2b$", "$2a$")])
def test_hashes_that_passlib_has_made_are_verified(hashed: str) -> None:
    hasher = context(*OTHERS)
    assert hasher.verify_and_update(SECRET, hashed) == (True, None)
    assert hasher.verify_and_update(SECRET + "x", hashed) == (False, None)
    assert hasher.verify(SECRET, hashed)
    assert hasher.identify(hashed) == "bcrypt"


def test_a_longer_password_still_opens_what_its_first_72_bytes_do() -> None:
    assert context().verify_and_update(LONG, BCRYPT_OF_LONG) == (True, None)
    assert context().verify_and_update(LONG[:72], BCRYPT_OF_LONG) == (True, None)
    assert context().verify_and_update(LONG[:71], BCRYPT_OF_LONG) == (False, None)
    # It cannot be hashed as it is, and has not become wrong by that.
    dearer = context(bcrypt__rounds=5)
    assert dearer.needs_update(BCRYPT_OF_LONG)
    assert dearer.verify_and_update(LONG, BCRYPT_OF_LONG) == (True, None)
    assert dearer.verify_and_update("wrong", BCRYPT_OF_LONG) == (False, None)


def test_a_cheaper_hash_is_replaced() -> None:
    right, better = context(bcrypt__rounds=5).verify_and_update(SECRET, BCRYPT)
    assert right
    assert better.startswith("$2b$05$")
    assert context(bcrypt__rounds="5").verify_and_update(SECRET, better) == (True, None)
    assert context(bcrypt__rounds=4).verify_and_update(SECRET, better) == (True, None)


@pytest.mark.parametrize("hashed", [PBKDF2, SHA512], ids=OTHERS)
def test_hashes_of_other_schemes_are_verified_and_replaced(hashed: str) -> None:
    hasher = context(*OTHERS)
    assert hasher.verify_and_update("wrong", hashed) == (False, None)
    right, better = hasher.verify_and_update(SECRET, hashed)
    assert right
    assert better.startswith("$2b$04$")
    assert hasher.verify_and_update(SECRET, better) == (True, None)


def test_a_password_that_bcrypt_cannot_hash_keeps_the_hash_of_another_scheme() -> None:
    assert context(*OTHERS).verify_and_update(LONG, PBKDF2_OF_LONG) == (True, None)
    assert context(*OTHERS).verify_and_update(LONG[:72], PBKDF2_OF_LONG) == (False, None)


def test_another_scheme_may_be_the_first() -> None:
    hasher = passlib_context(schemes=["pbkdf2_sha256", "bcrypt"], pbkdf2_sha256__rounds=10)
    assert hasher.verify_and_update(SECRET, PBKDF2) == (True, None)
    right, better = hasher.verify_and_update(SECRET, BCRYPT)
    assert right
    assert better is not None
    assert better.startswith("$pbkdf2-sha256$10$")


@pytest.mark.parametrize("password", ["", LONG, "sec\0ret", "sec\ud800ret", b"\xff"], ids=ascii)
def test_what_could_be_mistaken_for_another_password_is_not_hashed(password: str) -> None:
    with pytest.raises(PasswordError):
        context().hash(password)


def test_bytes_are_as_good_as_text_as_they_are_to_passlib() -> None:
    hasher = context()
    assert hasher.verify("\u20ac".encode(), hasher.hash("\u20ac").encode())
    assert hasher.verify("\u20ac", hasher.hash("\u20ac".encode()))
    assert hasher.verify_and_update(b"\xff", BCRYPT.encode()) == (False, None)


def test_a_context_that_is_made_of_it_works_as_well() -> None:
    hasher = context("pbkdf2_sha256")
    for other in (hasher.copy(), hasher.using(bcrypt__rounds=5)):
        assert other.schemes() == ("bcrypt", "pbkdf2_sha256")
        assert other.verify(SECRET, other.hash(SECRET))
    assert hasher.using(bcrypt__rounds=5).hash(SECRET).startswith("$2b$05$")


@pytest.mark.anyio
async def test_whatever_is_wrong_is_a_failed_login_and_takes_the_same_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work: list[int] = []
    verify, hashpw = bcrypt.checkpw, bcrypt.hashpw

    def checked(password: bytes, salt: bytes) -> bool:
        before = sum(work)
        answer = verify(password, salt)
        work[:] = [before + 2 ** int(salt[4:6])]
        return answer

    def hashed(password: bytes, salt: bytes) -> bytes:
        work.append(2 ** int(salt[4:6]))
        return hashpw(password, salt)

    passwords = Passwords(context(*OTHERS, bcrypt__rounds=5))
    monkeypatch.setattr(bcrypt, "checkpw", checked)
    monkeypatch.setattr(bcrypt, "hashpw", hashed)
    for stored in (None, BCRYPT, BCRYPT_2Y, BCRYPT[:-1], "", "!", "$argon2id$v=19$m=8,t=1,p=1$x$x"):
        for password in STRANGE:
            work.clear()
            assert await verify_by(passwords, password, stored) == (False, None)
            assert sum(work) == 2**5, (password[:80], stored)


def test_a_scheme_that_does_not_work_here_is_refused_at_once() -> None:
    if is_the_broken_pair():
        with pytest.raises(ValueError, match=r"^schemes has 'bcrypt_sha256', which does not work"):
            context("bcrypt_sha256")
    else:
        right, better = context("bcrypt_sha256").verify_and_update(SECRET, BCRYPT_SHA256)
        assert right
        assert better.startswith("$2b$04$")


@pytest.mark.anyio
async def test_a_context_that_does_not_work_here_is_refused_by_whoever_hashes_with_it() -> None:
    hasher = own_context(schemes=["bcrypt"], bcrypt__rounds=4)
    if is_the_broken_pair():
        with pytest.raises(ValueError, match=r"CryptContext, cannot hash .* passlib_context\(\)"):
            Passwords(hasher)
    else:
        assert await verify_by(Passwords(hasher), SECRET, BCRYPT) == (True, None)


def test_an_unknown_scheme_or_setting_is_passlibs_to_refuse() -> None:
    with pytest.raises(KeyError, match="nonesuch"):
        context("nonesuch")
    with pytest.raises((KeyError, TypeError), match="ident"):
        context(bcrypt__ident="2b")
    with pytest.raises(ValueError, match="rounds=99"):
        context(bcrypt__rounds=99)
