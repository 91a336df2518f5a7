"""iNNvestigate's LRP analyzers: their names and the options that each one takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ANY = frozenset({"input_layer_rule"})
_PRESET = frozenset({"epsilon", "input_layer_rule"})

ANALYZERS: Mapping[str, frozenset[str]] = {
    "lrp.z": _ANY,
    "lrp.epsilon": _ANY | {"epsilon", "bias"},
    "lrp.w_square": _ANY,
    "lrp.flat": _ANY,
    "lrp.alpha_beta": _ANY | {"alpha", "beta", "bias"},
    "lrp.alpha_2_beta_1": _ANY,
    "lrp.alpha_2_beta_1_IB": _ANY,
    "lrp.alpha_1_beta_0": _ANY,
    "lrp.alpha_1_beta_0_IB": _ANY,
    "lrp.z_plus": _ANY,
    "lrp.z_plus_fast": _ANY,
    "lrp.sequential_preset_a": _PRESET,
    "lrp.sequential_preset_b": _PRESET,
    "lrp.sequential_preset_a_flat": frozenset({"epsilon"}),
    "lrp.sequential_preset_b_flat": frozenset({"epsilon"}),
    "lrp.sequential_preset_b_flat_until_idx": frozenset({"epsilon", "until_layer_idx"}),
    "deep_taylor": frozenset(),
    "deep_taylor.bounded": frozenset({"low", "high"}),
}


def check_analyzer(name: str, options: Mapping[str, Any]) -> None:
    """Checks an analyzer's name and the names of its options.

    Raises:
        ValueError: If either is unknown; the message lists those that exist.
    """
    if name not in ANALYZERS:
        raise ValueError(f"Unknown analyzer {name!r}. There are: {', '.join(ANALYZERS)}.")
    unknown = sorted(set(options) - ANALYZERS[name])
    if unknown:
        raise ValueError(
            f"Analyzer {name!r} has no option {', '.join(unknown)}. "
            f"It takes: {', '.join(sorted(ANALYZERS[name]))}."
        )
