"""WebSockets in rooms, none of which can hold up another.

manager = ConnectionManager()
app = FastAPI(lifespan=manager.lifespan)

@app.websocket("/ws")
async def chat(websocket: WebSocket) -> None:
    async with manager.connect(websocket, rooms=["lobby"]) as connection:
        async for text in connection.iter_text():
            await manager.broadcast(text, room="lobby", exclude=connection)
"""

from fastkit.websockets._broker import Broker, BrokerError, Member, MemoryBroker, OnMessage, OnState
from fastkit.websockets._connection import Connection
from fastkit.websockets._manager import ConnectionManager
from fastkit.websockets._messages import Delivery, Statistics

__all__ = (
    "Broker",
    "BrokerError",
    "Connection",
    "ConnectionManager",
    "Delivery",
    "Member",
    "MemoryBroker",
    "OnMessage",
    "OnState",
    "Statistics",
)
