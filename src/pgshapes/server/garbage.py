"""How often Python looks for garbage in cycles, in processes that are ours alone.

A full look costs a pause in proportion to all that lives: 100 ms and more with five thousand requests in the
house, in the middle of whatever they wait for. Almost everything here is freed without it.
"""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (10_000, 10, 20)
"""Young objects, looks at those, looks at the middle-aged: about 1 ms, about 10 ms, and a full look each two
million objects more, some hundred megabytes. The defaults, 700, 10 and 10, mean a full look each 70,000.
"""


def look_for_garbage_rarely() -> None:
    """Once all modules are there: what lives now lives for good, and is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
