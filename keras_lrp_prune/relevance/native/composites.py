"""Composites: which rule for which layer, as tables.

An analyzer's name stands for one (`analyzers.py`). One of your own is a table of conditions and
rules:

>>> from keras_lrp_prune.relevance.native import rules
>>> composite = Composite(((is_dense, rules.epsilon(0.1)), (anything, rules.gamma(0.25))))
>>> klp.filter_relevance(model, x, y, analyzer=composite, engine="native")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.graph.layer_types import Trait, has
from keras_lrp_prune.graph.model_graph import ModelGraph, Node

if TYPE_CHECKING:  # it brings TensorFlow
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

    Raises:
        TypeError: If the table holds anything else, or a function that makes a rule and is none.
    """

    table: tuple[tuple[Condition, Rule], ...]
    taylor: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.table, Sequence):
            raise TypeError(f"A composite's table is a tuple of pairs, not {self.table!r}.")
        for index, row in enumerate(self.table):
            _check_row(index, row)

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


def _check_row(index: int, row: Any) -> None:
    """Refuses a row of a table that is no pair of a condition and a rule."""
    pair = isinstance(row, Sequence) and len(row) == 2
    if not pair or not all(map(callable, row)):
        raise TypeError(
            "A composite's table has pairs of a condition and a rule, such as "
            f"((is_dense, rules.epsilon(0.1)), (anything, rules.z)); row {index} is {row!r}."
        )
    # The functions of `rules` say what they return.
    if getattr(row[1], "__annotations__", {}).get("return") == "Rule":
        name = row[1].__name__
        raise TypeError(
            f"Row {index} of a composite's table has {name} for a rule, which makes one: call it, "
            f"as rules.{name}(...)."
        )


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
