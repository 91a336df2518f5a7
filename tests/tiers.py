"""How many examples a property is tested on in each tier.

`make test` draws an eighth of those of `make test-slow` (the profiles in conftest.py).
"""

from hypothesis import settings

FULL = 200


def examples(count, **options):
    """Settings of a property that takes `count` examples in the full tier, and its share else."""
    share = settings.default.max_examples / FULL
    return settings(max_examples=max(2, round(count * share)), **options)
