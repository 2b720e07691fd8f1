"""`python -m monitor` is `tillwatch`."""

from monitor.cli import main

main()
