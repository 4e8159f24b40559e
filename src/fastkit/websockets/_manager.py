"""The connections of an app."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeAlias
from uuid import UUID

from starlette.status import (
    WS_1000_NORMAL_CLOSURE,
    WS_1012_SERVICE_RESTART,
    WS_1013_TRY_AGAIN_LATER,
)
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fastkit._handshake import check_origin, plain_origin, refusal
from fastkit.websockets._broker import Broker, BrokerError, MemoryBroker
from fastkit.websockets._connection import Connecting, Connection
from fastkit.websockets._exchange import Exchange, OnGap
from fastkit.websockets._messages import Delivery, Sendable, Statistics, encode
from fastkit.websockets._outbox import Flow, WhenSlow
from fastkit.websockets._peer import Intake, Peer
from fastkit.websockets._registry import EVERYBODY, ROOM, USER, Capacity, Registry, interests_of

__all__ = ("ConnectionManager",)

UserId: TypeAlias = str | int | UUID

_RESTARTING = "The server restarts."

# At a shutdown: all of them come back, to other processes, and not all in one moment.
_SHUTDOWN_BATCH = 100
_SHUTDOWN_PAUSE = 0.05


class ConnectionManager:
    """WebSockets in rooms, none of which can hold up another.

    Args:
        broker: Takes what is broadcast to other processes. The default knows this one only.
        origins: Pages of other hosts that may connect, as `https://app.example.com`. A client that
            sends no `Origin` is no browser, and may.
        max_connections: How many there may be in this process; more are refused.
        max_connections_per_user: How many of one user there may be in this process.
        max_connections_per_address: How many from one client address, which is the server's
            `client`: behind a proxy the server has to be told to read its headers.
        max_message_size: Bytes of a message from a client; a longer one closes with 1009.
        max_messages_per_second: Messages of one client; more close with 1008.
        max_pending_bytes: What may wait for one client; what happens then says `when_slow`.
        max_stall: How many seconds one message may take, before the connection is ended.
        when_slow: `"close"` ends the connection (1013), `"drop_oldest"` and `"drop_new"` drop what
            is broadcast, never what its own endpoint sends, and no closing.
        shutdown_timeout: Seconds the connections have to end at a shutdown.
        on_gap: Awaited when the broker is up again: what was broadcast meanwhile may be missing.
        local_when_down: While the broker is down, go on in this process alone: what is broadcast
            here reaches nobody elsewhere. Otherwise to broadcast raises `BrokerError` then, and who
            brings a room or a user that is new here cannot connect (1013).

    Raises:
        ValueError: An origin is none, or a limit is not positive.
    """

    def __init__(
        self,
        *,
        broker: Broker | None = None,
        origins: Collection[str] = (),
        max_connections: int = 10_000,
        max_connections_per_user: int = 100,
        max_connections_per_address: int = 1_000,
        max_message_size: int = 65_536,
        max_messages_per_second: float = 100,
        max_pending_bytes: int = 1_048_576,
        max_stall: float = 10,
        when_slow: WhenSlow = "close",
        shutdown_timeout: float = 5,
        on_gap: OnGap | None = None,
        local_when_down: bool = False,
    ) -> None:
        _check_positive(
            max_connections=max_connections,
            max_connections_per_user=max_connections_per_user,
            max_connections_per_address=max_connections_per_address,
            max_message_size=max_message_size,
            max_messages_per_second=max_messages_per_second,
            max_pending_bytes=max_pending_bytes,
            max_stall=max_stall,
            shutdown_timeout=shutdown_timeout,
        )
        self._origins = {plain_origin(origin) for origin in origins}
        self._flow = Flow(max_pending_bytes, max_stall, when_slow)
        self._intake = Intake(max_message_size, max_messages_per_second)
        self._shutdown_timeout = shutdown_timeout
        self._registry = Registry(
            Capacity(max_connections, max_connections_per_user, max_connections_per_address)
        )
        self._exchange = Exchange(
            MemoryBroker() if broker is None else broker,
            self._registry,
            on_gap=on_gap,
            local_when_down=local_when_down,
        )
        self._is_closing = False

    # Connections

    def connect(
        self,
        websocket: WebSocket,
        *,
        user: UserId | None = None,
        rooms: Iterable[str] = (),
        expires_at: float | None = None,
        expiry_warning: Sendable | None = None,
    ) -> Connecting:
        """Accept the WebSocket, unless it is, and add it: `await` this or enter it.

            async with manager.connect(websocket, user=user.id, rooms=["lobby"]) as connection:
                async for text in connection.iter_text():
                    ...

        The connection is closed when the block ends (1000). Awaited, it is added until its task
        ends. At `expires_at`, in seconds since 1970, it is closed with 4001; 30 seconds before, or
        at half the time that is left if it is shorter, the client is sent `expiry_warning`, so that
        it can bring what the endpoint needs for `connection.renew(...)`.

        Raises:
            WebSocketException: The origin is not allowed (1008), or there are too many connections,
                the broker is down, or the manager is shutting down (1013), or it is closed (1000).
            RuntimeError: It is connected already.
            TypeError: `rooms` is one str.
        """
        name = None if user is None else str(user)
        warning = None if expiry_warning is None else encode(expiry_warning).message
        topics = [EVERYBODY, *(ROOM + room for room in dict.fromkeys(_names(rooms)))]
        if name is not None:
            topics.append(USER + name)

        async def open_() -> tuple[Peer, Connection]:
            peer = await self._accept(websocket, name)
            connection = Connection(peer, join=self._join, leave=self._leave)
            try:
                await self._join(peer, topics)
                if expires_at is not None:
                    peer.expire_at(expires_at, warning)
            except WebSocketDisconnect as end:
                try:
                    await peer.finish()
                finally:
                    peer.release()
                raise refusal(websocket, end.reason, code=end.code) from None
            except BrokerError:
                peer.release()
                raise refusal(websocket, "Try again later.", code=WS_1013_TRY_AGAIN_LATER) from None
            except BaseException:
                peer.release()
                raise
            return peer, connection

        return Connecting(open_)

    def disconnect(self, connection: WebSocket | Connection) -> None:
        """Take it out of everything, without closing it. It is no error if that was done before."""
        if (peer := self._find(connection)) is not None:
            peer.unschedule()
            self._forget(peer)

    @property
    def active_connections(self) -> list[WebSocket]:
        """The WebSockets connected to this process."""
        return [peer.websocket for peer in self._registry]

    @property
    def rooms(self) -> dict[str, int]:
        """The rooms that somebody of this process is in, and how many connections are."""
        return {name: len(peers) for name, peers in self._registry.groups(ROOM)}

    @property
    def statistics(self) -> Statistics:
        """Numbers for metrics."""
        return Statistics(
            connections=len(self._registry),
            rooms=len(self.rooms),
            users=sum(1 for _ in self._registry.groups(USER)),
            pending_bytes=sum(peer.outbox.pending_bytes for peer in self._registry),
            messages=replace(self._exchange.totals),
            broker_is_up=self._exchange.is_up,
            gaps=self._exchange.gaps,
        )

    async def presence(self, room: str) -> frozenset[str]:
        """The users in a room, in all processes.

        Those of a process that was killed may be among them for some time.

        Raises:
            BrokerError: The broker is down, and there is no `local_when_down`.
        """
        return await self._exchange.members(ROOM + room)

    async def ping(self) -> None:
        """Find out whether messages of other processes arrive.

        Raises:
            BrokerError: They do not.
        """
        if not self._exchange.is_up:
            raise BrokerError("The broker of WebSocket messages is down.")

    # Messages

    async def send_personal_message(
        self, message: Sendable, connection: WebSocket | Connection
    ) -> Delivery:
        """Send to one connection of this process, without waiting for it.

        Raises:
            ValueError: The message cannot be encoded.
        """
        tally = Delivery()
        if (peer := self._find(connection)) is not None:
            peer.outbox.offer(encode(message), tally)
            self._exchange.count(tally)
            if tally.queued:
                # As in a broadcast: the server has to come to write.
                await asyncio.sleep(0)
        return tally

    async def send_to_user(
        self,
        message: Sendable,
        user: UserId,
        *,
        exclude: WebSocket | Connection | None = None,
    ) -> Delivery:
        """Send to all connections of a user, in all processes; see `broadcast`."""
        return await self._publish(USER + str(user), message, exclude)

    async def broadcast(
        self,
        message: Sendable,
        *,
        room: str | None = None,
        exclude: WebSocket | Connection | None = None,
    ) -> Delivery:
        """Send to all connections, or all in a room, in all processes, except one.

        A str is sent as text, bytes are sent as they are, anything else as JSON in a text. It is
        encoded once, and waits for no client. Two broadcasts to a room arrive everywhere in one
        order.

        Returns:
            What became of it in this process.

        Raises:
            ValueError: The message cannot be encoded. No client can cause an exception here.
            BrokerError: The broker is down, and there is no `local_when_down`.
        """
        return await self._publish(EVERYBODY if room is None else ROOM + room, message, exclude)

    async def _publish(
        self, topic: str, message: Sendable, exclude: WebSocket | Connection | None
    ) -> Delivery:
        excluded = None if exclude is None else self._find(exclude)
        return await self._exchange.publish(
            topic, encode(message), None if excluded is None else excluded.id
        )

    # The end

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncGenerator[None]:
        """Start the broker, and end all connections with the app: `FastAPI(lifespan=...)`."""
        self._is_closing = self._exchange.is_closed = False
        try:
            await self._exchange.ensure(())
            yield
        finally:
            await self.shutdown()
            await self._exchange.close(self._shutdown_timeout)

    async def shutdown(self) -> None:
        """Close all connections with 1012, in batches, and refuse others.

        It returns when they have ended, after `shutdown_timeout` at the latest. What is left then
        is cut off.
        """
        self._is_closing = True
        peers = list(self._registry)
        batches = [peers[i : i + _SHUTDOWN_BATCH] for i in range(0, len(peers), _SHUTDOWN_BATCH)]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._shutdown_timeout):
                for batch in batches:
                    for peer in batch:
                        peer.dismiss(
                            WS_1012_SERVICE_RESTART, _RESTARTING, seconds=self._shutdown_timeout
                        )
                    await asyncio.sleep(min(_SHUTDOWN_PAUSE, self._shutdown_timeout / len(peers)))
                for peer in peers:
                    await peer.gone.wait()
        for peer in peers:
            if not peer.gone.is_set():
                peer.abort()

    # The books

    async def _accept(self, websocket: WebSocket, user: str | None) -> Peer:
        if self._registry.find(websocket) is not None:
            raise RuntimeError(
                "This WebSocket is connected already: another room is joined with"
                " `await connection.join(room)`."
            )
        if WebSocketState.DISCONNECTED in (websocket.client_state, websocket.application_state):
            raise refusal(websocket, "The connection is over.", code=WS_1000_NORMAL_CLOSURE)
        check_origin(websocket, self._origins)
        if self._is_closing:
            raise refusal(websocket, _RESTARTING, code=WS_1013_TRY_AGAIN_LATER)
        address = websocket.client.host if websocket.client else None
        if not self._registry.admit(user, address):
            raise refusal(websocket, "Too many connections.", code=WS_1013_TRY_AGAIN_LATER)
        try:
            if websocket.application_state is WebSocketState.CONNECTING:
                await websocket.accept()
        except BaseException:
            self._registry.withdraw(user, address)
            raise
        peer = Peer(
            websocket,
            user=user,
            address=address,
            flow=self._flow,
            intake=self._intake,
            forget=self._forget,
            evicted=self._evicted,
        )
        self._registry.add(peer)
        return peer

    async def _join(self, peer: Peer, topics: Collection[str]) -> None:
        if self._is_closing:
            peer.dismiss(WS_1012_SERVICE_RESTART, _RESTARTING)
        while True:
            if self._registry.find(peer.websocket) is not peer:
                raise peer.disconnection()
            new = [topic for topic in topics if topic not in peer.topics]
            for topic in new:
                self._registry.join(peer, topic)
            try:
                await self._exchange.ensure(
                    [each for topic in topics for each in interests_of(peer, topic)]
                )
            except BaseException:
                self._leave(peer, new)
                raise
            # Another join of the same, cancelled meanwhile, may have taken it back.
            if peer.topics.issuperset(topics):
                return

    def _leave(self, peer: Peer, topics: Iterable[str]) -> None:
        self._exchange.give_up(
            [ended for topic in topics for ended in self._registry.leave(peer, topic)]
        )

    def _forget(self, peer: Peer) -> None:
        self._exchange.give_up(self._registry.remove(peer))

    def _evicted(self) -> None:
        self._exchange.totals.evicted += 1

    def _find(self, connection: WebSocket | Connection) -> Peer | None:
        websocket = connection.websocket if isinstance(connection, Connection) else connection
        return self._registry.find(websocket)


def _names(rooms: Iterable[str]) -> list[str]:
    if isinstance(rooms, str):
        raise TypeError(f"rooms={rooms!r} is one str: pass a list of names, as rooms=[{rooms!r}].")
    return list(rooms)


def _check_positive(**limits: float) -> None:
    for name, value in limits.items():
        if not value > 0:
            raise ValueError(f"{name}={value!r} lets nothing through: pass a number above 0.")
