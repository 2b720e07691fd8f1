"""The author's tools for checkout flows: recording one, and checking one without running it."""
