"""LRP analyzers, by iNNvestigate's names, with the options that each one takes; engines, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_lrp_prune.arguments import one_of

DEFAULT_ANALYZER = "lrp.sequential_preset_a"
ENGINES = ("auto", "innvestigate", "native")

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


NATIVE_ANALYZERS: Mapping[str, frozenset[str]] = {
    **ANALYZERS,
    "lrp.gamma": _ANY | {"gamma"},
}


def check_engine(engine: str) -> None:
    """Raises `ValueError` for an unknown engine."""
    one_of("engine", engine, ENGINES)


def check_analyzer(name: str, options: Mapping[str, Any], *, native: bool = False) -> None:
    """Checks an analyzer's name and the names of its options.

    Args:
        name: The analyzer.
        options: Its keyword arguments.
        native: Whether it is for the native engine, which knows more.

    Raises:
        ValueError: If either is unknown; the message lists those that exist.
    """
    known = NATIVE_ANALYZERS if native else ANALYZERS
    if name in [other for other in NATIVE_ANALYZERS if other not in known]:
        raise ValueError(f"Analyzer {name!r} is for the engine 'native'; iNNvestigate has none.")
    one_of("analyzer", name, known)
    unknown = sorted(set(options) - known[name])
    if unknown:
        raise ValueError(
            f"Analyzer {name!r} has no option {', '.join(unknown)}. "
            f"It takes: {', '.join(sorted(known[name])) or 'none'}."
        )
