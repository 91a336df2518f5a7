"""A network in parts that follow one another, each of which reads one tensor of the one before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from keras_lrp_prune.graph.model_graph import ModelGraph, Node, TensorRef, references

# The least work of a part that another one follows, as a share of all: each costs a copy of what it
# computes.
_LEAST = 1 / 8


@dataclass(frozen=True)
class Part:
    """Calls that follow one another.

    Args:
        start: What they read.
        end: What of what they compute is read behind them.
        layers: Names of the layers that are called.
    """

    start: TensorRef
    end: TensorRef
    layers: frozenset[str]


def parts_of(graph: ModelGraph, tensor: TensorRef, least: float = 0.0) -> list[Part]:
    """The parts of a flat network up to a tensor, in their order.

    Args:
        graph: With one input.
        tensor: What the last one ends with.
        least: Multiplications for a sample that a part has to take, if another one follows.
    """
    (start,) = references(graph.inputs)
    found, layers, work = [], set[str](), 0.0
    least = max(least, _LEAST * sum(map(_work, graph.nodes)))
    for node, end in _with_what_is_read_later(graph, tensor):
        layers.add(node.layer.name)
        work += _work(node)
        if end is not None and (end == tensor or work >= least):
            found.append(Part(start, end, frozenset(layers)))
            start, layers, work = end, set(), 0.0
    return found


def _with_what_is_read_later(
    graph: ModelGraph, tensor: TensorRef
) -> Iterator[tuple[Node, TensorRef | None]]:
    """Each call up to a tensor, and what is read of all so far, if that is a single tensor."""
    end = next(index for index, node in enumerate(graph.nodes) if node.name == tensor.node)
    last = {ref: index for index, node in enumerate(graph.nodes[: end + 1]) for ref in node.inputs}
    last[tensor] = end + 1
    alive: set[TensorRef] = set()
    for index, node in enumerate(graph.nodes[: end + 1]):
        made = (TensorRef(node.name, number) for number in range(len(node.shapes)))
        alive = {ref for ref in (*alive, *made) if last.get(ref, -1) > index}
        yield node, next(iter(alive)) if len(alive) == 1 and not node.is_input else None


def _work(node: Node) -> float:
    """Multiplications of a call, where its weights are applied at each position."""
    weights = sum(prod(weight.shape) for weight in node.layer.weights.values())
    return float(weights * prod(size or 1 for size in node.shapes[0][1:-1]))
