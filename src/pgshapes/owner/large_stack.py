"""Evaluates a predicate again for a row that is nested too deeply for the stack of this thread.

Postgres accepts a jsonb that is nested thousands of levels deep. Python's limit for recursion protects the
stack of the main thread, so the evaluation runs in a thread with a larger stack, and this one waits for it.
What needs even more raises RecursionError, which ends the shape.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Final

from pgshapes.model.change import Row

STACK_BYTES: Final = 512 * 1024 * 1024
"""Address space; memory is used as far as the recursion goes."""
RECURSION_LIMIT: Final = 100_000
"""At 5 KB of stack for each level, which is more than any function of ours takes."""


def evaluate_deeply(matches: Callable[[Row], bool], row: Row) -> bool:
    """Whether the row matches. Raises what `matches` raises; RecursionError without room for a stack."""
    outcome: list[bool | BaseException] = []

    def run() -> None:
        try:
            outcome.append(matches(row))
        except BaseException as error:
            outcome.append(error)

    limit, size = sys.getrecursionlimit(), threading.stack_size()
    try:
        threading.stack_size(STACK_BYTES)
        thread = threading.Thread(target=run, name="pgshapes deep evaluation")
        sys.setrecursionlimit(RECURSION_LIMIT)
        thread.start()
        thread.join()
    except (RuntimeError, ValueError, MemoryError) as error:
        raise RecursionError("no stack for a deeper evaluation") from error
    finally:
        sys.setrecursionlimit(limit)
        threading.stack_size(size)
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result
    return result
