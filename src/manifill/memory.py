"""Keep freed memory in the process: to hand it back to the system and fault it in again costs up to a fifth."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8  # of glibc's mallopt
ARENAS = 2  # pools of freed memory: a server's threads take turns, and with one each they keep half as much again


def keep_freed_memory(large: bool = False) -> bool:
    """Tell glibc's allocator to reuse what is freed; return whether it could be told (Linux with glibc only).

    Of 32 MiB and more it does so with `large` alone, for work that asks for the same sizes again and again, as training
    does: other work would leave holes between them.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    told = mallopt(M_MMAP_THRESHOLD, 32 << 20) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    return bool(told and (mallopt(M_MMAP_MAX, 0) if large else mallopt(M_ARENA_MAX, ARENAS)))
