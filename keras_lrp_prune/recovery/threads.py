"""How many threads linear algebra gets: where matrices are small, more only wait for each other."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

from threadpoolctl import ThreadpoolController

# Multiplications below which one thread is as good as several, and far better where other work has
# some of the cores: a thread that waits for another one keeps its core busy.
_FEW = 4e9


def one_thread() -> AbstractContextManager[object]:
    """Inside, BLAS and LAPACK compute in one thread."""
    return _controller().limit(limits=1, user_api="blas")


def threads_for(multiplications: float) -> AbstractContextManager[object]:
    """Inside, they compute in as many threads as pay.

    Args:
        multiplications: How many the largest of the products takes.
    """
    return one_thread() if multiplications < _FEW else nullcontext()


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
