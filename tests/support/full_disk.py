"""A disk that is full, for those who write."""

import resource
from contextlib import contextmanager


@contextmanager
def full_disk(size):
    """No file grows beyond a size: what a full disk looks like to those who write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
