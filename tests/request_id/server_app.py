"""An app for a real server: it answers with the id of the request."""

from fastapi import FastAPI, WebSocket

from fastkit.request_id import RequestIdMiddleware, get_request_id

app = FastAPI()
app.add_middleware(RequestIdMiddleware, trust_incoming=True)


@app.get("/")
async def read() -> str | None:
    return get_request_id()


@app.websocket("/ws")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(str(get_request_id()))
    await websocket.close()
