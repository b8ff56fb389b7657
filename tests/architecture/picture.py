"""Prints the lines of each folder and the picture of the layers.

`python -m tests.architecture.picture`, from the root of the repository.
"""

from __future__ import annotations

from collections import Counter

from tests.architecture.layers import ASIDE, LAYERS
from tests.architecture.source import PACKAGE, modules, part_imports


def picture() -> str:
    """The layers as the tests define them, top layer first."""
    lines, files = Counter[str](), Counter[str]()
    for module in modules().values():
        lines[module.part] += module.lines
        files[module.part] += 1
    return "\n".join([*_sizes(lines, files), "", *_layers(lines)])


def _sizes(lines: Counter[str], files: Counter[str]) -> list[str]:
    order = [part for layer in LAYERS for part in layer] + [*ASIDE, PACKAGE]
    rows = [f"{part:<14}{files[part]:>6}{lines[part]:>8}" for part in order if files[part]]
    total = f"{'total':<14}{files.total():>6}{lines.total():>8}"
    return [f"{'part':<14}{'files':>6}{'lines':>8}", *rows, total]


def _layers(lines: Counter[str]) -> list[str]:
    seen = part_imports()
    drawn = ["layers, each sees only what is below it:"]
    for layer in reversed(LAYERS):
        drawn.append("  ─────────")
        drawn += [f"  {part:<14}→ {_list(seen[part])}" for part in layer if part in lines]
    drawn.append("  ─────────")
    drawn += [f"  aside: {part} → {_list(seen[part])}" for part in ASIDE if part in lines]
    return drawn


def _list(parts: set[str]) -> str:
    order = [part for layer in LAYERS for part in layer] + list(ASIDE)
    return " ".join(part for part in order if part in parts) or "nothing"


if __name__ == "__main__":
    print(picture())
