"""What a bench ran on, and how fast that was at the moment: a virtual machine shares its host."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path


def yardstick(core: int | None = None) -> float:
    """Milliseconds of a fixed piece of pure Python, on one core or on any: the best of five."""
    code = "import timeit; print(min(timeit.repeat('for n in range(50000): str(n)', number=1, repeat=5)))"
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    said = subprocess.run([*pinned, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return 1000 * float(said.stdout)


def described() -> str:
    model = next(
        (
            line.partition(": ")[2]
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} × {model}, {system}"
