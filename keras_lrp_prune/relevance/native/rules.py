"""LRP rules: how a linear layer shares its relevance among what it reads.

A rule is a function `rule(step) -> relevance of step.x`. Nearly all share in proportion to the
products of some inputs and some kernel, which is one line each below. The formulas are those of
Bach et al. 2015 (doi:10.1371/journal.pone.0130140), Montavon et al. 2017 (deep Taylor
decomposition, doi:10.1016/j.patcog.2016.11.008) and Montavon et al. 2019 (gamma,
doi:10.1007/978-3-030-28954-6_10). All cost one or two transposed passes through the layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

Tensor = Any


@dataclass(frozen=True)
class Step:
    """What a rule sees of one call of a linear layer.

    Args:
        x: What the layer read.
        kernel: Its kernel.
        bias: Its bias, or `None`.
        linear: `linear(x, kernel)`: the layer without its bias.
        passed: Relevance of its outputs.
        nonnegative: Whether `x` is known to have no negative values.
    """

    x: Tensor
    kernel: Tensor
    bias: Tensor | None
    linear: Callable[[Tensor, Tensor], Tensor]
    passed: Tensor
    nonnegative: bool = False


Rule = Callable[[Step], Tensor]
Terms = list[tuple[Tensor, Tensor]]


def z(step: Step) -> Tensor:
    """In proportion to the products of inputs and weights; the bias takes its share."""
    return _shared(step, [(step.x, step.kernel)], step.bias)


def epsilon(value: float = 1e-7, *, bias: bool = True) -> Rule:
    """Like `z`, with a stabiliser of the sign of the divisor, which absorbs relevance."""

    def rule(step: Step) -> Tensor:
        def away_from_zero(total: Tensor) -> Tensor:
            return total + tf.where(total >= 0, value, -value)

        terms = [(step.x, step.kernel)]
        return _shared(step, terms, step.bias if bias else None, away_from_zero)

    return rule


def alpha_beta(alpha: float, beta: float, *, bias: bool = True) -> Rule:
    """Positive and negative products apart, weighted by `alpha` and `-beta`."""

    def rule(step: Step) -> Tensor:
        shift = step.bias if bias else None
        up, down = tf.nn.relu(step.kernel), -tf.nn.relu(-step.kernel)
        excites, inhibits = [(step.x, up)], [(step.x, down)]
        if not step.nonnegative:
            above, below = tf.nn.relu(step.x), -tf.nn.relu(-step.x)
            excites, inhibits = [(above, up), (below, down)], [(above, down), (below, up)]
        shares = alpha * _shared(step, excites, shift)
        return shares - beta * _shared(step, inhibits, shift) if beta else shares

    return rule


def gamma(value: float = 0.25) -> Rule:
    """Like `z`, with positive weights favoured by a factor of `1 + value`."""

    def rule(step: Step) -> Tensor:
        kernel = step.kernel + value * tf.nn.relu(step.kernel)
        bias = None if step.bias is None else step.bias + value * tf.nn.relu(step.bias)
        return _shared(step, [(step.x, kernel)], bias)

    return rule


def z_plus_fast(step: Step) -> Tensor:
    """In proportion to inputs times positive weights; meant for inputs that are not negative."""
    return _shared(step, [(step.x, tf.nn.relu(step.kernel))], None)


def w_square(step: Step) -> Tensor:
    """In proportion to the squared weights, whatever the inputs are."""
    return _shared(step, [(tf.ones_like(step.x), tf.square(step.kernel))], None)


def flat(step: Step) -> Tensor:
    """In equal shares to all that the layer reads."""
    return _shared(step, [(tf.ones_like(step.x), tf.ones_like(step.kernel))], None)


def bounded(low: float, high: float) -> Rule:
    """For inputs between `low` and `high` (the z^B rule of deep Taylor decomposition)."""

    def rule(step: Step) -> Tensor:
        lowest, highest = (tf.fill(tf.shape(step.x), -bound) for bound in (low, high))
        up, down = tf.nn.relu(step.kernel), -tf.nn.relu(-step.kernel)
        return _shared(step, [(step.x, step.kernel), (lowest, up), (highest, down)], None)

    return rule


def _shared(
    step: Step,
    terms: Terms,
    bias: Tensor | None,
    divisor: Callable[[Tensor], Tensor] = lambda total: total,
) -> Tensor:
    """Shares relevance among the inputs in proportion to the products of `terms`."""
    inputs = [x for x, _ in terms]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        total = tf.add_n([step.linear(x, kernel) for x, kernel in terms])
    whole = total if bias is None else total + bias
    # Nothing to share is nothing shared.
    share = tf.math.divide_no_nan(step.passed, divisor(whole))
    gradients = tape.gradient(total, inputs, share)
    return tf.add_n([x * gradient for x, gradient in zip(inputs, gradients, strict=True)])
