"""Backends are loaded, and LLVM compiles, in one thread at a time, and no process is forked meanwhile."""

from __future__ import annotations

import os
import threading

COMPILING = threading.RLock()
"""Held while a backend is loaded, and while LLVM compiles."""

if hasattr(os, "register_at_fork"):
    # A child has one thread only. What another one held, this lock or one of LLVM's own, it would wait for without end.
    os.register_at_fork(before=COMPILING.acquire, after_in_parent=COMPILING.release, after_in_child=COMPILING.release)
