"""LRP rules: how a linear layer shares its relevance among what it reads.

A rule is a function `rule(call) -> share`, where `share(passed)` turns relevance of the layer's
outputs into relevance of `call.x`. What does not depend on the relevance is computed before, once
for all classes. Nearly all rules share in proportion to the products of some inputs and some kernel
(`in_proportion`), which is one line each below. The formulas are those of
Bach et al. 2015 (doi:10.1371/journal.pone.0130140), Montavon et al. 2017 (deep Taylor
decomposition, doi:10.1016/j.patcog.2016.11.008) and Montavon et al. 2019 (gamma,
doi:10.1007/978-3-030-28954-6_10).

`z` and `epsilon` cost one transposed pass through the layer; the others, for each pair of inputs
and kernel, a pass more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

Tensor = Any


@dataclass(frozen=True)
class LinearCall:
    """What a rule sees of one call of a linear layer.

    Args:
        x: What the layer read.
        kernel: Its kernel.
        bias: Its bias, or `None`.
        linear: `linear(x, kernel)`: the layer without its bias.
        output: What it returned, bias included.
        nonnegative: Whether `x` is known to have no negative values.
    """

    x: Tensor
    kernel: Tensor
    bias: Tensor | None
    linear: Callable[[Tensor, Tensor], Tensor]
    output: Tensor
    nonnegative: bool = False

    def transposed(self, kernel: Tensor, outputs: Tensor) -> Tensor:
        """The transposed layer, outputs to inputs; TensorFlow drops the unused forward pass."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.x)
            unused = self.linear(self.x, kernel)
        return tape.gradient(unused, self.x, outputs)


Redistribution = Callable[[Tensor], Tensor]
Rule = Callable[[LinearCall], Redistribution]
Terms = list[tuple[Tensor, Tensor]]


def z(call: LinearCall) -> Redistribution:
    """In proportion to the products of inputs and weights; the bias takes its share."""
    return in_proportion(call, [(call.x, call.kernel)], call.output)


def epsilon(value: float = 1e-7, *, bias: bool = True) -> Rule:
    """Like `z`, with a stabiliser of the sign of the divisor, which absorbs relevance."""

    def rule(call: LinearCall) -> Redistribution:
        whole = call.output if bias else call.linear(call.x, call.kernel)
        stable = whole + tf.where(whole >= 0, value, -value)
        return in_proportion(call, [(call.x, call.kernel)], stable)

    return rule


def alpha_beta(alpha: float, beta: float, *, bias: bool = True) -> Rule:
    """Positive and negative products apart, weighted by `alpha` and `-beta`."""

    def rule(call: LinearCall) -> Redistribution:
        shift = call.bias if bias and call.bias is not None else 0.0
        up, down = tf.nn.relu(call.kernel), -tf.nn.relu(-call.kernel)
        excites, inhibits = [(call.x, up)], [(call.x, down)]
        if not call.nonnegative:
            above, below = tf.nn.relu(call.x), -tf.nn.relu(-call.x)
            excites, inhibits = [(above, up), (below, down)], [(above, down), (below, up)]
        positive = in_proportion(call, excites, total(call, excites) + shift)
        if not beta:
            return lambda passed: alpha * positive(passed)
        negative = in_proportion(call, inhibits, total(call, inhibits) + shift)
        return lambda passed: alpha * positive(passed) - beta * negative(passed)

    return rule


def gamma(value: float = 0.25) -> Rule:
    """Like `z`, with positive weights favoured by a factor of `1 + value`."""

    def rule(call: LinearCall) -> Redistribution:
        terms = [(call.x, call.kernel + value * tf.nn.relu(call.kernel))]
        shift = 0.0 if call.bias is None else call.bias + value * tf.nn.relu(call.bias)
        return in_proportion(call, terms, total(call, terms) + shift)

    return rule


def z_plus_fast(call: LinearCall) -> Redistribution:
    """In proportion to inputs times positive weights; meant for inputs that are not negative."""
    terms = [(call.x, tf.nn.relu(call.kernel))]
    return in_proportion(call, terms, total(call, terms))


def w_square(call: LinearCall) -> Redistribution:
    """In proportion to the squared weights, whatever the inputs are."""
    return _whatever_is_read(call, tf.square(call.kernel))


def flat(call: LinearCall) -> Redistribution:
    """In equal shares to all that the layer reads."""
    return _whatever_is_read(call, tf.ones_like(call.kernel))


def bounded(low: float, high: float) -> Rule:
    """For inputs between `low` and `high` (the z^B rule of deep Taylor decomposition)."""

    def rule(call: LinearCall) -> Redistribution:
        lowest, highest = (tf.fill(tf.shape(call.x), -bound) for bound in (low, high))
        up, down = tf.nn.relu(call.kernel), -tf.nn.relu(-call.kernel)
        terms = [(call.x, call.kernel), (lowest, up), (highest, down)]
        return in_proportion(call, terms, total(call, terms))

    return rule


def total(call: LinearCall, terms: Terms) -> Tensor:
    """What the layer makes of all terms together."""
    return tf.add_n([call.linear(x, kernel) for x, kernel in terms])


def in_proportion(call: LinearCall, terms: Terms, whole: Tensor) -> Redistribution:
    """Shares relevance among the inputs in proportion to the products of `terms`.

    Args:
        call: The call of the layer.
        terms: Pairs of inputs and kernel.
        whole: What the products are parts of: their sum, as a rule with bias or stabiliser.
    """

    def share(passed: Tensor) -> Tensor:
        # Where `whole` is zero, nothing is shared.
        per_product = tf.math.divide_no_nan(passed, whole)
        return tf.add_n([x * call.transposed(kernel, per_product) for x, kernel in terms])

    return share


def _whatever_is_read(call: LinearCall, kernel: Tensor) -> Redistribution:
    """In proportion to a kernel alone: one sample's sums serve for all."""
    ones = tf.ones_like(call.x)
    return in_proportion(call, [(ones, kernel)], call.linear(ones[:1], kernel))
