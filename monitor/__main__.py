"""`python -m monitor` is `tillwatch`."""

from monitor.cli import main

if __name__ == "__main__":       # processes that are spawned import this again
    main()
