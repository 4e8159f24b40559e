"""A message as brokers carry it."""

import struct
from dataclasses import dataclass

from fastkit.websockets._messages import Outgoing

__all__ = ("Envelope",)

# Version and kind, the process it comes from, its number there, and the connection left out.
_HEADER = struct.Struct(">2s16sQ16s")
_KINDS = {True: b"1t", False: b"1b"}
_NOBODY = bytes(16)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message with what the receiving process has to know."""

    origin: bytes
    """16 bytes: the process."""
    number: int
    """Rises in each process."""
    exclude: str | None
    """The id of the connection that is left out."""
    outgoing: Outgoing

    def pack(self) -> bytes:
        """The envelope as bytes."""
        exclude = bytes.fromhex(self.exclude) if self.exclude else _NOBODY
        kind = _KINDS[self.outgoing.is_text]
        return _HEADER.pack(kind, self.origin, self.number, exclude) + self.outgoing.data

    @classmethod
    def unpack(cls, payload: bytes) -> "Envelope":
        """The envelope of these bytes.

        Raises:
            ValueError: They are none, or one of a later version.
        """
        if len(payload) < _HEADER.size:
            raise ValueError("it is too short")
        kind, origin, number, exclude = _HEADER.unpack_from(payload)
        if kind not in _KINDS.values():
            raise ValueError(f"it begins with {kind!r}")
        outgoing = Outgoing.of(payload[_HEADER.size :], is_text=kind == _KINDS[True])
        return cls(origin, number, None if exclude == _NOBODY else exclude.hex(), outgoing)
