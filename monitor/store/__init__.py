"""What Tillwatch remembers: one SQLite file, written by one thread, read by connections that cannot write."""

from monitor.store.limits import Limits
from monitor.store.reading import read_only
from monitor.store.store import Store
from monitor.store.trouble import StoreError

__all__ = ["Limits", "Store", "StoreError", "read_only"]
