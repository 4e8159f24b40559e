"""An app for a real server: it prints a line of JSON for each finished request."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict

from fastapi import BackgroundTasks, FastAPI, WebSocket
from fastapi.responses import StreamingResponse

from fastkit.timing import RequestRecord, TimingMiddleware

app = FastAPI()


def report(record: RequestRecord) -> None:
    sys.stdout.write(f"record {json.dumps(asdict(record))}\n")
    sys.stdout.flush()


app.add_middleware(TimingMiddleware, on_finish=report)


@app.get("/items/{item_id}")
def item(item_id: int) -> int:
    return item_id


@app.get("/background")
async def background(tasks: BackgroundTasks) -> None:
    tasks.add_task(asyncio.sleep, 0.05)


@app.get("/slow-stream")
async def slow_stream() -> StreamingResponse:
    async def chunks() -> AsyncIterator[str]:
        for _ in range(5):
            yield "x"
            await asyncio.sleep(0.05)

    return StreamingResponse(chunks())


@app.get("/endless")
async def endless() -> StreamingResponse:
    async def chunks() -> AsyncIterator[str]:
        while True:
            yield "x" * 1024
            await asyncio.sleep(0.01)

    return StreamingResponse(chunks())


@app.get("/broken-stream")
async def broken_stream() -> StreamingResponse:
    async def chunks() -> AsyncIterator[str]:
        yield "x"
        raise RuntimeError("in the middle")

    return StreamingResponse(chunks())


@app.get("/crash")
async def crash() -> None:
    raise RuntimeError("the app's own")


@app.websocket("/ws/{room}")
async def room(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{room}: {text}")
