"""What Tillwatch remembers: one SQLite file, written by one thread, read by connections that cannot write."""

from monitor.store.store import Store, StoreError, read_only

__all__ = ["Store", "StoreError", "read_only"]
