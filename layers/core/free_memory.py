"""How much memory is left, so that a net that is too large is refused before it is made."""

import contextlib


def free_memory():
    """Return the bytes that this process may still take, or None where the system does not say (not Linux)."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration), open("/proc/meminfo") as file:
        found.append(next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:")))
    folder = "/sys/fs/cgroup"
    with contextlib.suppress(OSError, ValueError), open(f"{folder}/memory.max") as most, \
            open(f"{folder}/memory.current") as now:
        found.append(int(most.read()) - int(now.read()))
    return max(min(found), 0) if found else None
