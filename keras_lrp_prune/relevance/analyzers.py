"""LRP analyzers, by iNNvestigate's names: what each stands for, in one table; engines, too.

A new one is a line in the table. It says which rules of `native/rules.py` are for which layers, and
its options are the parameters of what says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from math import isclose
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.arguments import one_of
from keras_lrp_prune.relevance.native.composites import (
    Composite,
    Condition,
    anything,
    is_dense,
    reads_input,
)

if TYPE_CHECKING:  # it brings TensorFlow
    from keras_lrp_prune.relevance.native.rules import Rule

DEFAULT_ANALYZER = "lrp.sequential_preset_a"
ENGINES = ("auto", "innvestigate", "native")


@dataclass(frozen=True)
class Analyzer:
    """What an analyzer's name stands for.

    Args:
        build: `build(rules, **options)` makes the composite. `rules` is the module
            `relevance.native.rules`: it brings TensorFlow, which names and options do without.
        takes_input_rule: Whether the option `input_layer_rule` puts a rule for the layer that reads
            the model's input before those of the composite.
        native_only: Whether iNNvestigate has none of this name.
    """

    build: Callable[..., Composite]
    takes_input_rule: bool = True
    native_only: bool = False

    @cached_property
    def options(self) -> frozenset[str]:
        """Names of its keyword arguments."""
        _, *own = signature(self.build).parameters
        return frozenset([*own, "input_layer_rule"] if self.takes_input_rule else own)


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


def make_composite(analyzer: str | Composite, options: Mapping[str, Any]) -> Composite:
    """The composite that an analyzer's name stands for; imports TensorFlow.

    Args:
        analyzer: A name, or a composite, which is returned as it is.
        options: Keyword arguments of the analyzer.

    Raises:
        ValueError: For an unknown analyzer or option, or unsuitable values of options.
    """
    if isinstance(analyzer, Composite):
        if options:
            raise ValueError("A composite takes no analyzer_options: its rules have theirs.")
        return analyzer
    check_analyzer(analyzer, options, native=True)
    # Not at the top: it brings TensorFlow.
    from keras_lrp_prune.relevance.native import rules

    options = dict(options)
    first = _input_rule(rules, options.pop("input_layer_rule", None))
    composite = _TABLE[analyzer].build(rules, **options)
    return replace(composite, table=first + composite.table)


def _one(rule: Rule) -> Composite:
    return Composite(((anything, rule),))


def _epsilon(rules: ModuleType, epsilon: float = 1e-7, bias: bool = True) -> Composite:
    return _one(rules.epsilon(_positive(epsilon), bias=bias))


def _gamma(rules: ModuleType, gamma: float = 0.25) -> Composite:
    return _one(rules.gamma(_positive(gamma)))


def _alpha_beta(
    rules: ModuleType, alpha: float | None = None, beta: float | None = None, bias: bool = True
) -> Composite:
    if alpha is None and beta is None:
        raise ValueError("lrp.alpha_beta needs alpha or beta (alpha - beta = 1).")
    alpha = beta + 1 if alpha is None and beta is not None else alpha
    beta = alpha - 1 if beta is None and alpha is not None else beta
    if alpha is None or beta is None or beta < 0 or not isclose(alpha - beta, 1):
        raise ValueError(f"alpha - beta must be 1 and beta not negative: {alpha=}, {beta=}.")
    return _one(rules.alpha_beta(alpha, beta, bias=bias))


def _preset(alpha: float, beta: float, *, flat: bool = False) -> Analyzer:
    """Alpha-beta for convolutions, epsilon for dense layers, flat where the input is read."""

    def build(rules: ModuleType, epsilon: float = 0.1) -> Composite:
        first = ((reads_input, rules.flat),) if flat else ()
        dense = (is_dense, rules.epsilon(_positive(epsilon)))
        return Composite((*first, dense, (anything, rules.alpha_beta(alpha, beta))))

    return Analyzer(build, takes_input_rule=not flat)


def _flat_until(
    rules: ModuleType, epsilon: float = 0.1, until_layer_idx: int | None = None
) -> Composite:
    flat = _preset(2, 1, flat=True).build(rules, epsilon)
    if until_layer_idx is None:
        return flat
    return Composite(((lambda place: place.index <= until_layer_idx, rules.flat), *flat.table))


def _taylor(rules: ModuleType) -> Composite:
    return Composite(((anything, rules.alpha_beta(1, 0, bias=False)),), taylor=True)


def _bounded_taylor(
    rules: ModuleType, low: float | None = None, high: float | None = None
) -> Composite:
    if low is None or high is None:
        raise ValueError("deep_taylor.bounded needs low and high, the range of the inputs.")
    first = (reads_input, _bounded(rules, low, high))
    return Composite((first, *_taylor(rules).table), taylor=True)


_TABLE: Mapping[str, Analyzer] = {
    "lrp.z": Analyzer(lambda rules: _one(rules.z)),
    "lrp.epsilon": Analyzer(_epsilon),
    "lrp.w_square": Analyzer(lambda rules: _one(rules.w_square)),
    "lrp.flat": Analyzer(lambda rules: _one(rules.flat)),
    "lrp.alpha_beta": Analyzer(_alpha_beta),
    "lrp.alpha_2_beta_1": Analyzer(lambda rules: _one(rules.alpha_beta(2, 1))),
    "lrp.alpha_2_beta_1_IB": Analyzer(lambda rules: _one(rules.alpha_beta(2, 1, bias=False))),
    "lrp.alpha_1_beta_0": Analyzer(lambda rules: _one(rules.alpha_beta(1, 0))),
    "lrp.alpha_1_beta_0_IB": Analyzer(lambda rules: _one(rules.alpha_beta(1, 0, bias=False))),
    "lrp.z_plus": Analyzer(lambda rules: _one(rules.alpha_beta(1, 0, bias=False))),
    "lrp.z_plus_fast": Analyzer(lambda rules: _one(rules.z_plus_fast)),
    "lrp.sequential_preset_a": _preset(1, 0),
    "lrp.sequential_preset_b": _preset(2, 1),
    "lrp.sequential_preset_a_flat": _preset(1, 0, flat=True),
    "lrp.sequential_preset_b_flat": _preset(2, 1, flat=True),
    "lrp.sequential_preset_b_flat_until_idx": Analyzer(_flat_until, takes_input_rule=False),
    "deep_taylor": Analyzer(_taylor, takes_input_rule=False),
    "deep_taylor.bounded": Analyzer(_bounded_taylor, takes_input_rule=False),
    "lrp.gamma": Analyzer(_gamma, native_only=True),
}

# Names to the options that they take; iNNvestigate's own, and all that the native engine knows.
ANALYZERS: Mapping[str, frozenset[str]] = {
    name: one.options for name, one in _TABLE.items() if not one.native_only
}
NATIVE_ANALYZERS: Mapping[str, frozenset[str]] = {name: one.options for name, one in _TABLE.items()}

# What iNNvestigate calls its rules, where one is named for the input layer.
_INPUT_RULES: Mapping[str, Callable[[ModuleType], Rule]] = {
    "Z": lambda rules: rules.z,
    "Epsilon": lambda rules: rules.epsilon(),
    "WSquare": lambda rules: rules.w_square,
    "Flat": lambda rules: rules.flat,
    "Alpha2Beta1": lambda rules: rules.alpha_beta(2, 1),
    "Alpha2Beta1IgnoreBias": lambda rules: rules.alpha_beta(2, 1, bias=False),
    "Alpha1Beta0": lambda rules: rules.alpha_beta(1, 0),
    "Alpha1Beta0IgnoreBias": lambda rules: rules.alpha_beta(1, 0, bias=False),
    "ZPlus": lambda rules: rules.alpha_beta(1, 0, bias=False),
    "ZPlusFast": lambda rules: rules.z_plus_fast,
    "Bounded": lambda rules: rules.bounded(-1.0, 1.0),
}


def _input_rule(rules: ModuleType, chosen: Any) -> tuple[tuple[Condition, Rule], ...]:
    """The first row of a table for `input_layer_rule`: a rule's name, or a range (low, high)."""
    if chosen is None:
        return ()
    if isinstance(chosen, str):
        if chosen not in _INPUT_RULES:
            raise ValueError(
                f"Unknown input_layer_rule {chosen!r}. There are: {', '.join(_INPUT_RULES)}, or a "
                "pair (low, high)."
            )
        return ((reads_input, _INPUT_RULES[chosen](rules)),)
    if np.shape(chosen) != (2,):
        raise ValueError(f"input_layer_rule must be a name or a pair (low, high), not {chosen!r}.")
    return ((reads_input, _bounded(rules, *chosen)),)


def _bounded(rules: ModuleType, low: float, high: float) -> Rule:
    if not low < high:
        raise ValueError(f"low must be less than high: {low=}, {high=}.")
    found: Rule = rules.bounded(float(low), float(high))
    return found


def _positive(value: float) -> float:
    if not value > 0:
        raise ValueError(f"epsilon and gamma must be positive, not {value}.")
    return float(value)
