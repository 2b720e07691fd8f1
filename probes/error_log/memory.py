"""What a run must know of the runs before it, as the checkpoint that is committed with the sample."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Self

MOST_KNOWN = 2000          # signatures; one that was not seen for longer than so many others is new again
_HASH = 6                  # bytes; of 2,000 signatures one in 10^8 new ones is mistaken for a known one
_HEAD = struct.Struct("<4sI")
_MAGIC = b"log1"


@dataclass(slots=True)
class Memory:
    """`place` is where reading goes on, in the words of whoever reads; None before anything was read. `known` are hashes, newest last."""

    place: bytes | None = None
    known: dict[bytes, None] = field(default_factory=dict)

    @classmethod
    def decode(cls, checkpoint: bytes | None) -> Self:
        """What `encode` gave. Nothing, or what another version wrote, is an empty memory."""
        if checkpoint is None or len(checkpoint) < _HEAD.size:
            return cls()
        magic, size = _HEAD.unpack_from(checkpoint)
        place = _HEAD.size + size * _HASH
        if magic != _MAGIC or place > len(checkpoint):
            return cls()
        hashes = checkpoint[_HEAD.size:place]
        return cls(checkpoint[place:] or None, {hashes[at:at + _HASH]: None for at in range(0, len(hashes), _HASH)})

    def encode(self) -> bytes:
        """At most 12 kB beside the place."""
        known = list(self.known)[-MOST_KNOWN:]
        return _HEAD.pack(_MAGIC, len(known)) + b"".join(known) + (self.place or b"")

    def learn(self, signatures: Iterable[str]) -> list[str]:
        """Remember these, and give those that were not known."""
        new = []
        for name in signatures:
            hashed = blake2b(name.encode("utf-8", "replace"), digest_size=_HASH).digest()
            if hashed in self.known:
                del self.known[hashed]             # put at the end
            else:
                new.append(name)
            self.known[hashed] = None
        return new
