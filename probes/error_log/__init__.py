"""Following a shop's error logs: every line counted once, new errors known by their signature."""
