"""Composites: which rule for which layer, as tables.

An analyzer's name stands for a composite. One of your own is a table of conditions and rules:

>>> from keras_lrp_prune.relevance.native import rules
>>> composite = Composite(((is_dense, rules.epsilon(0.1)), (anything, rules.gamma(0.25))))
>>> klp.filter_relevance(model, x, y, analyzer=composite, engine="native")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import isclose
from typing import Any

import numpy as np

from keras_lrp_prune.graph.layer_types import Trait, has
from keras_lrp_prune.graph.model_graph import ModelGraph, Node
from keras_lrp_prune.relevance.analyzers import check_analyzer
from keras_lrp_prune.relevance.native import rules
from keras_lrp_prune.relevance.native.rules import Rule


@dataclass(frozen=True)
class Place:
    """Where a linear layer stands: what conditions look at.

    Args:
        node: Its call.
        index: Position of the call in the canonical graph, input layer included.
        reads_input: Whether it reads the model's input (through reshaping layers at most).
    """

    node: Node
    index: int
    reads_input: bool


Condition = Callable[[Place], bool]


@dataclass(frozen=True)
class Composite:
    """A table of conditions and rules; the first condition that holds decides.

    Args:
        table: Pairs of a condition and a rule.
        taylor: Whether sums and activations pass relevance on along their gradient, and only
            positive scores are explained, as in deep Taylor decomposition. Otherwise sums share
            in proportion to their inputs, and activations pass relevance on as it is.
    """

    table: tuple[tuple[Condition, Rule], ...]
    taylor: bool = False

    def rule_for(self, place: Place) -> Rule:
        """The rule for a layer.

        Raises:
            ValueError: If no condition holds.
        """
        for condition, rule in self.table:
            if condition(place):
                return rule
        layer = place.node.layer
        raise ValueError(
            f"The composite has no rule for layer {layer.name!r} ({layer.class_name}); end its "
            "table with (anything, rule)."
        )

    def describe(self) -> dict[str, Any]:
        """What tells it from others, as plain data: its functions, by name, and their values."""
        table = [[_described(condition), _described(rule)] for condition, rule in self.table]
        return {"table": table, "taylor": self.taylor}


def _described(value: Any) -> Any:
    """A function as its name and the values in it; anything else as it is, or in words."""
    code = getattr(value, "__code__", None)
    if code is None:
        return value if isinstance(value, str | int | float | None) else repr(value)
    cells = (cell.cell_contents for cell in value.__closure__ or ())
    return {
        "function": f"{value.__module__}.{value.__qualname__}",
        # They tell lambdas apart, which have all one name.
        "constants": [one for one in code.co_consts if isinstance(one, str | int | float)],
        **{name: _described(cell) for name, cell in zip(code.co_freevars, cells, strict=True)},
    }


def anything(place: Place) -> bool:
    """Any linear layer."""
    return True


def is_dense(place: Place) -> bool:
    """A dense layer."""
    return place.node.layer.class_name == "Dense"


def reads_input(place: Place) -> bool:
    """The layer that reads the model's input."""
    return place.reads_input


def place_of(graph: ModelGraph, index: int) -> Place:
    """Where call number `index` of a canonical graph stands."""
    node = graph.nodes[index]
    source = graph.by_name[node.inputs[0].node]
    while has(source.layer, Trait.REARRANGES):
        source = graph.by_name[source.inputs[0].node]
    return Place(node, index, source.is_input)


def make_composite(analyzer: str | Composite, options: Mapping[str, Any]) -> Composite:
    """The composite that an analyzer's name stands for.

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
    options = dict(options)
    first = _input_rule(options.pop("input_layer_rule", None))
    composite = _COMPOSITES[analyzer](**options)
    return replace(composite, table=first + composite.table)


def _one(rule: Rule) -> Composite:
    return Composite(((anything, rule),))


def _alpha_beta(
    alpha: float | None = None, beta: float | None = None, bias: bool = True
) -> Composite:
    if alpha is None and beta is None:
        raise ValueError("lrp.alpha_beta needs alpha or beta (alpha - beta = 1).")
    alpha = beta + 1 if alpha is None and beta is not None else alpha
    beta = alpha - 1 if beta is None and alpha is not None else beta
    if alpha is None or beta is None or beta < 0 or not isclose(alpha - beta, 1):
        raise ValueError(f"alpha - beta must be 1 and beta not negative: {alpha=}, {beta=}.")
    return _one(rules.alpha_beta(alpha, beta, bias=bias))


def _epsilon(epsilon: float = 1e-7, bias: bool = True) -> Composite:
    return _one(rules.epsilon(_positive(epsilon), bias=bias))


def _gamma(gamma: float = 0.25) -> Composite:
    return _one(rules.gamma(_positive(gamma)))


def _preset(convolution: Rule, first: Rule | None = None, epsilon: float = 0.1) -> Composite:
    table = ((is_dense, rules.epsilon(_positive(epsilon))), (anything, convolution))
    return Composite((((reads_input, first),) if first else ()) + table)


def _until(
    convolution: Rule, epsilon: float = 0.1, until_layer_idx: int | None = None
) -> Composite:
    flat = _preset(convolution, rules.flat, epsilon)
    if until_layer_idx is None:
        return flat
    return Composite(((lambda place: place.index <= until_layer_idx, rules.flat), *flat.table))


def _taylor(first: Rule | None = None) -> Composite:
    table = ((anything, rules.alpha_beta(1, 0, bias=False)),)
    return Composite((((reads_input, first),) if first else ()) + table, taylor=True)


def _bounded_taylor(low: float | None = None, high: float | None = None) -> Composite:
    if low is None or high is None:
        raise ValueError("deep_taylor.bounded needs low and high, the range of the inputs.")
    return _taylor(_bounded(low, high))


_A, _B = rules.alpha_beta(1, 0), rules.alpha_beta(2, 1)

_COMPOSITES: Mapping[str, Callable[..., Composite]] = {
    "lrp.z": partial(_one, rules.z),
    "lrp.epsilon": _epsilon,
    "lrp.gamma": _gamma,
    "lrp.w_square": partial(_one, rules.w_square),
    "lrp.flat": partial(_one, rules.flat),
    "lrp.alpha_beta": _alpha_beta,
    "lrp.alpha_2_beta_1": partial(_one, _B),
    "lrp.alpha_2_beta_1_IB": partial(_one, rules.alpha_beta(2, 1, bias=False)),
    "lrp.alpha_1_beta_0": partial(_one, _A),
    "lrp.alpha_1_beta_0_IB": partial(_one, rules.alpha_beta(1, 0, bias=False)),
    "lrp.z_plus": partial(_one, rules.alpha_beta(1, 0, bias=False)),
    "lrp.z_plus_fast": partial(_one, rules.z_plus_fast),
    "lrp.sequential_preset_a": partial(_preset, _A),
    "lrp.sequential_preset_b": partial(_preset, _B),
    "lrp.sequential_preset_a_flat": partial(_preset, _A, rules.flat),
    "lrp.sequential_preset_b_flat": partial(_preset, _B, rules.flat),
    "lrp.sequential_preset_b_flat_until_idx": partial(_until, _B),
    "deep_taylor": _taylor,
    "deep_taylor.bounded": _bounded_taylor,
}

# What iNNvestigate calls its rules, where one is named for the input layer.
_INPUT_RULES: Mapping[str, Rule] = {
    "Z": rules.z,
    "Epsilon": rules.epsilon(),
    "WSquare": rules.w_square,
    "Flat": rules.flat,
    "Alpha2Beta1": _B,
    "Alpha2Beta1IgnoreBias": rules.alpha_beta(2, 1, bias=False),
    "Alpha1Beta0": _A,
    "Alpha1Beta0IgnoreBias": rules.alpha_beta(1, 0, bias=False),
    "ZPlus": rules.alpha_beta(1, 0, bias=False),
    "ZPlusFast": rules.z_plus_fast,
    "Bounded": rules.bounded(-1.0, 1.0),
}


def _input_rule(chosen: Any) -> tuple[tuple[Condition, Rule], ...]:
    """The first row of a table for `input_layer_rule`: a rule's name, or a range (low, high)."""
    if chosen is None:
        return ()
    if isinstance(chosen, str):
        if chosen not in _INPUT_RULES:
            raise ValueError(
                f"Unknown input_layer_rule {chosen!r}. There are: {', '.join(_INPUT_RULES)}, or a "
                "pair (low, high)."
            )
        return ((reads_input, _INPUT_RULES[chosen]),)
    if np.shape(chosen) != (2,):
        raise ValueError(f"input_layer_rule must be a name or a pair (low, high), not {chosen!r}.")
    return ((reads_input, _bounded(*chosen)),)


def _bounded(low: float, high: float) -> Rule:
    if not low < high:
        raise ValueError(f"low must be less than high: {low=}, {high=}.")
    return rules.bounded(float(low), float(high))


def _positive(value: float) -> float:
    if not value > 0:
        raise ValueError(f"epsilon and gamma must be positive, not {value}.")
    return float(value)
