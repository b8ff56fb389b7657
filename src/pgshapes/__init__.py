"""pgshapes: a Postgres sync engine that streams shapes over plain, cacheable HTTP."""

__version__ = "0.1.0"
