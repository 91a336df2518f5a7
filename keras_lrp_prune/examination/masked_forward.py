"""What a masked model computes: on the working copy, or on one without what is gone."""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np

from keras_lrp_prune.cost import CostModel
from keras_lrp_prune.cost.shrinking import Shrinking
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.criteria.smaller import without
from keras_lrp_prune.examination.parts import parts_of
from keras_lrp_prune.graph.channels import ChannelStructure, selects
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.graph.model_graph import TensorRef, references
from keras_lrp_prune.prunables.masked_weights import masked_weights
from keras_lrp_prune.prunables.prunable import Prunable
from keras_lrp_prune.runtime import CompiledForward, scope

# Of the memory for what is kept of the samples, what is for what parts of the network computed.
_SHARE = 1 / 8
# Multiplications in about the time that tracing a part takes: smaller ones save less than it costs.
_TRACING = 2.5e9
# Trials of a step.
_PASSES = 6


class MaskedForward(Protocol):
    """Computes a tensor of the model for the reference samples, without some units."""

    def __call__(self, removed: np.ndarray) -> np.ndarray:
        """A row for each sample; a forward pass."""
        ...

    def settle(self, removed: np.ndarray) -> bool:
        """Says which units are gone where a step begins; whether rows may be rounded otherwise."""
        ...


def make_masked_forward(problem: Problem[Prunable], tensor: TensorRef) -> MaskedForward:
    """The one that suits a problem: channels can be left out, on one device.

    Args:
        problem: The model and the reference set.
        tensor: What is computed.
    """
    # Replicas, on several machines maybe, would have to agree on when.
    if isinstance(problem.structure, ChannelStructure) and problem.strategy is None:
        return ShrinkingForward(cast("Problem[ChannelStructure]", problem), tensor)
    return FixedForward(problem, tensor)


class FixedForward:
    """Masks units in the working copy, and runs all of it.

    Args:
        problem: The model and the reference set.
        tensor: What is computed.
    """

    def __init__(self, problem: Problem[Prunable], tensor: TensorRef) -> None:
        self._problem = problem
        (start,) = references(problem.graph.inputs)
        self._run = _compiled(problem, start, tensor)

    def __call__(self, removed: np.ndarray) -> np.ndarray:
        """See `MaskedForward`."""
        self._problem.mask().set(removed)
        return self._run(self._problem.reference.x)

    def settle(self, removed: np.ndarray) -> bool:
        """Does nothing."""
        return False


class PartByPart:
    """Masks units in the working copy, and runs it from where it differs from what was run before.

    Masks that agree up to some layer share what lies before it. What parts of the network computed
    last is kept, as much as an eighth of the problem's memory holds.

    Args:
        problem: The model and the reference set; weights must stay but for the mask.
        tensor: What is computed.
        tracing: What a part has to take for all samples, in multiplications.
    """

    def __init__(
        self, problem: Problem[ChannelStructure], tensor: TensorRef, tracing: float = _TRACING
    ) -> None:
        self._problem = problem
        parts = parts_of(problem.graph, tensor, tracing / len(problem.reference))
        self._runs = [_compiled(problem, part.start, part.end) for part in parts]
        masked = masked_weights(problem.structure)
        units: set[int] = set()
        # By part, what what it computes hangs on: units that it masks, or those before it.
        self._units = []
        for part in parts:
            units.update(*(one.units.tolist() for one in masked if one.layer in part.layers))
            self._units.append(np.array(sorted(units), np.int64))
        self._kept: dict[tuple[int, bytes], np.ndarray] = {}

    def __call__(self, removed: np.ndarray) -> np.ndarray:
        """See `MaskedForward`."""
        keys = [(number, removed[units].tobytes()) for number, units in enumerate(self._units)]
        first = next((key for key in reversed(keys) if key in self._kept), None)
        begin = 0 if first is None else first[0] + 1
        rows = self._problem.reference.x if first is None else self._kept.pop(first)
        if first is not None:
            self._kept[first] = rows  # it is the last that was used now
        if begin < len(keys):
            self._problem.mask().set(removed)
        for key, run in zip(keys[begin:], self._runs[begin:], strict=True):
            rows = self._kept[key] = run(rows)
            self._forget()
        return rows

    def _forget(self) -> None:
        """Forgets what was not used for longest, until the rest fits into memory."""
        total = sum(rows.nbytes for rows in self._kept.values())
        while total > _SHARE * self._problem.memory:
            total -= self._kept.pop(next(iter(self._kept))).nbytes


def _compiled(problem: Problem[Prunable], start: TensorRef, end: TensorRef) -> CompiledForward:
    """The way of the working copy from a tensor to another."""
    working = problem.working()
    with scope(problem.strategy):
        model = keras_of(working.model).Model(working.tensors[start], working.tensors[end])
        return CompiledForward(model, problem.batch_size, problem.strategy)


class ShrinkingForward:
    """Runs a copy without units that are gone, where that pays; others are masked in it.

    What it computes is the same but for float rounding.

    Args:
        problem: The model and the reference set.
        tensor: What is computed.
    """

    def __init__(self, problem: Problem[ChannelStructure], tensor: TensorRef) -> None:
        self._units = problem.structure.tensor_units.get(tensor)
        cost = CostModel(problem.graph, problem.structure)
        self._parts = Shrinking(
            lambda removed: PartByPart(without(problem, removed), tensor),
            lambda removed: _PASSES * len(problem.reference) * cost(removed).flops,
            (len(problem.graph.nodes), problem.structure.n_units),
        )

    def __call__(self, removed: np.ndarray) -> np.ndarray:
        """See `MaskedForward`."""
        rows = self._parts.without(removed)(removed)
        if self._units is None:
            return rows
        left = ~selects(self._parts.left_out, self._units)
        found = np.zeros((*rows.shape[:-1], len(left)), rows.dtype)
        found[..., left] = rows
        return found

    def settle(self, removed: np.ndarray) -> bool:
        """See `MaskedForward`."""
        return self._parts.settle(removed)
