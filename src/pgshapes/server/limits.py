"""What the operating system allows this process, as far as we may raise it ourselves."""

from __future__ import annotations

import resource


def raise_open_files() -> int:
    """Allow as many open files as the hard limit says: each held poll is one, each busy log two. Returns the
    limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
