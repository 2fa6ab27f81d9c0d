"""The memory of this machine, and how much a number of bytes is of it."""

import os
from pathlib import Path

# A container's limit: cgroup version 2, and 1.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def total() -> int:
    """Bytes of memory that this process may use at most: the machine's, or less where a container has a limit."""
    known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _LIMITS:
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        # "max" is no limit.
        if text.isdecimal():
            known.append(int(text))
    return min(known)


def readable(size: int) -> str:
    """A number of bytes, like 3.6 TB."""
    amount, units = float(size), ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:,.0f} {units[0]}" if amount >= 100 or units[0] == "B" else f"{amount:.1f} {units[0]}"
