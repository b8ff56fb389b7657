"""A Postgres of our own, for `pgshapes dev` and for tests: binaries, a data directory, a process."""
