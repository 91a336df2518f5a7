"""By how much this process grows (Linux)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
_PROCESS = Path("/proc/self")


@dataclass
class Memory:
    """Resident bytes of this process, at the most, above those of before."""

    growth: int = 0


@contextmanager
def growing() -> Iterator[Memory]:
    """Measures by how much the process grows inside; known behind it."""
    (_PROCESS / "clear_refs").write_text("5")  # the peak starts anew
    found, before = Memory(), _bytes("VmRSS")
    yield found
    found.growth = _bytes("VmHWM") - before


def _bytes(name: str) -> int:
    lines = (_PROCESS / "status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(line.split()[1])
