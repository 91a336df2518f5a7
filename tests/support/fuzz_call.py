"""What a line of the table in `fuzz_calls.py` says about a public function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fuzz_values import RIGHT, WRONG, Values


@dataclass(frozen=True)
class Call:
    """How the fuzz test calls a public function.

    Args:
        code: It, with `{}` for its arguments.
        valid: How many of 100 valid sets of arguments are for it.
        right, wrong: Values of arguments that mean another thing than elsewhere.
        needs: Arguments that are always given.
        along: Argument to what is given as well where it is wrong, so that it counts.
        unfit: Models of the pool that it does not take, or not with the samples given.
    """

    code: str
    valid: int
    right: Values = field(default_factory=dict)
    wrong: Values = field(default_factory=dict)
    needs: Sequence[str] = ()
    along: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unfit: Sequence[str] = ()

    def values(self, name: str, wrong: bool) -> Sequence[str]:
        """What there is for an argument."""
        own, common = (self.wrong, WRONG) if wrong else (self.right, RIGHT)
        return own[name] if name in own else common[name]
