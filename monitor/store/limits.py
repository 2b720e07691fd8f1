"""How long and how much: the numbers of a store."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes."""

    flush: float = 0.2               # samples are gathered for so long before they are committed together
    busy: float = 5.0                # another program's lock is waited for so long, the first time
    retry: float = 1.0               # between two tries of a disk that cannot be written
    ring: int = 200_000              # samples kept in memory meanwhile,
    ring_seconds: float = 3600.0     # and for how long
    check: float = 2.0               # looking through the file at the start
    copy: float = 3600.0             # between two copies of the essentials
    copy_within: float = 30.0        # one copy takes no longer: it keeps the write-ahead log from shrinking
    wal: int = 64 << 20              # a write-ahead log larger than this is cut when nobody reads
    wal_wait: float = 10.0           # between two tries of that
    ballast: int = 16 << 20          # set aside for the day on which the disk is full
    ballast_wait: float = 60.0       # between two tries to set it aside again
