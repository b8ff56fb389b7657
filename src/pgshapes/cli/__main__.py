"""`python -m pgshapes.cli`, the same as `pgshapes`."""

from pgshapes.cli.entry import main

if __name__ == "__main__":
    main()
