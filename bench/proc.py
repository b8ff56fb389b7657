"""What a process has used, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time so far, in seconds; resolution 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def peak_mb(pid: int) -> float:
    """The largest resident size so far, in MB."""
    return _status_kb(pid, "VmHWM") / 1024


def resident_mb(pid: int) -> float:
    """The resident size now, in MB."""
    return _status_kb(pid, "VmRSS") / 1024


def conditions() -> str:
    """One line about the machine."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores shared with client and Postgres, load {load} at the start"


def _status_kb(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0
