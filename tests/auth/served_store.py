"""Refresh tokens over HTTP, on the store that environment variables name: for two processes."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException
from fastapi.requests import Request

from fastkit.auth._keys import Key, Keyring
from fastkit.auth._refresh import InvalidGrantError, RefreshTokens
from tests.auth.stores import Place, open_store

Token = Annotated[str, Body(embed=True)]


class _Clock:
    """Stands, as long as it is told the same."""

    now = 1_764_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, Any]]:
    async with open_store(Place.of_env()) as store:
        clock = _Clock()
        yield {
            "clock": clock,
            "tokens": RefreshTokens(
                Keyring([Key("Rk3v0x9QmZ7tYb2LwJ5cHs8PnUa4DgEf")]),
                store,
                issuer="fastkit",
                audience="fastkit",
                lifetime=3600.0,
                grace=10.0,
                clock=clock,
            ),
        }


app = FastAPI(lifespan=lifespan)


def _tokens(request: Request) -> RefreshTokens:
    tokens: RefreshTokens = request.state.tokens
    return tokens


@app.post("/clock")
async def clock(request: Request, now: Annotated[float, Body(embed=True)]) -> None:
    request.state.clock.now = now


@app.post("/start")
async def start(request: Request) -> str:
    return (await _tokens(request).start("ann", [], ""))[1]


@app.post("/exchange")
async def exchange(request: Request, token: Token) -> str:
    tokens = _tokens(request)
    try:
        return await tokens.rotate(await tokens.check(token), "")
    except InvalidGrantError as error:
        raise HTTPException(401, type(error).__name__) from None


@app.post("/revoke")
async def revoke(request: Request, token: Token) -> None:
    await _tokens(request).revoke(token)


@app.post("/revoke-all")
async def revoke_all(request: Request) -> int:
    return await _tokens(request).revoke_all("ann")
