"""The memory of this machine, and how much a number of bytes is of it."""

import os
from pathlib import Path

# A container's limit: cgroup version 2, and 1.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# What a container of version 2 uses, and what of it are files.
_USED, _STATISTICS = "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"
_KILOBYTE = 1024


def total() -> int:
    """Bytes of memory that this process may use at most: the machine's, or less where a container has a limit."""
    known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    known += [limit for limit in map(_number, _LIMITS) if limit is not None]
    return min(known)


def available() -> int:
    """Bytes of memory that this process may still use: those that are free, and the cache of files, which gives way."""
    free = _fields("/proc/meminfo").get("MemAvailable:", 0) * _KILOBYTE or total()
    used = _number(_USED)
    if used is None:
        return min(free, total())
    files = _fields(_STATISTICS)
    cached = files.get("active_file", 0) + files.get("inactive_file", 0)
    return max(0, min(free, total() - used + cached))


def readable(size: int) -> str:
    """A number of bytes, like 3.6 TB."""
    amount, units = float(size), ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:,.0f} {units[0]}" if amount >= 100 or units[0] == "B" else f"{amount:.1f} {units[0]}"


def _number(name: str) -> int | None:
    """The number in a file; None where there is no such file, or a word such as "max", which is no limit."""
    try:
        text = Path(name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _fields(name: str) -> dict[str, int]:
    """The second word of each line by the first; empty where there is no such file."""
    try:
        lines = Path(name).read_text().splitlines()
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in map(str.split, lines) if len(words) > 1 and words[1].isdecimal()}
