"""What Tillwatch remembers: one SQLite file, written by one thread, read by connections that cannot write."""

from monitor.store.store import Store, StoreError

__all__ = ["Store", "StoreError"]
