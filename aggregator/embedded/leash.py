"""How processes are kept from outliving their parents: three facts of the Linux kernel.

A child may ask for a signal when its parent dies (PR_SET_PDEATHSIG), however the parent dies. An
ancestor may ask to inherit orphans (PR_SET_CHILD_SUBREAPER), so that a grandchild is never lost. And
/proc names each process's parent, so what was inherited can be found and ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def inherit_orphans() -> None:
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(signum: int, parent: int) -> None:
    """For the child, right after the fork: end by `signum` when `parent` ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)


def dying_with_me(signum: int) -> Callable[[], None]:
    """A `preexec_fn` that ties the child to this process."""
    parent = os.getpid()
    return lambda: die_with_parent(signum, parent)


def children(of: int) -> list[int]:
    """The processes whose parent is `of` now, zombies included."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name in parentheses may hold anything, so the fields begin after the last one.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == of:
                found.append(int(entry.name))
    return found


def kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def reap_orphans(known: set[int]) -> None:
    """Collect what was inherited and has ended; children in `known` are left to their owner."""
    with contextlib.suppress(ChildProcessError):  # there are none at all
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return  # nobody has ended: that is so nearly always, and reading /proc costs milliseconds
    me = os.getpid()
    for pid in children(me):
        if pid not in known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def end_all(seconds: float = 5.0) -> None:
    """End every child that is left, and the children that it leaves behind, until there are none."""
    me = os.getpid()
    until = time.monotonic() + seconds
    while (left := children(me)) and time.monotonic() < until:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)
