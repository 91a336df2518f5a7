"""The criteria that have a name: those of this package and those that users register."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any

from keras_lrp_prune.arguments import one_of
from keras_lrp_prune.criteria.criterion import KINDS, NEEDS, Criterion, is_plain
from keras_lrp_prune.criteria.lrp import LOG_ODDS
from keras_lrp_prune.criteria.unique import UniqueContribution
from keras_lrp_prune.graph.plain import checked_config
from keras_lrp_prune.relevance.analyzers import DEFAULT_ANALYZER, check_engine

# The files of this room that hold criteria; the order is that of lists in messages and in help.
_FILES = (
    "lrp",
    "unique",
    "reconstruction",
    "activations",
    "group_taylor",
    "norms",
    "random_order",
)
_OURS: Sequence[Criterion] = tuple(
    criterion
    for file in _FILES
    for criterion in import_module(f"keras_lrp_prune.criteria.{file}").CRITERIA
)
_REGISTERED: dict[str, Criterion] = {one.name: one for one in _OURS}

CRITERIA: Mapping[str, Criterion] = MappingProxyType(_REGISTERED)

# The methods of `compare` that do not have the name of a criterion; no criterion can take theirs.
LRP_METHODS = ("accuracy-aware", "lrp-iterative", "lrp-one-shot", "pxp-iterative")

# Words that arguments have a meaning for.
_RESERVED = ("auto", "none")


def register_criterion(criterion: Criterion) -> None:
    """Gives a criterion a name that `prune`, `Method` and `FilterPruning` know.

    It becomes a method of `accuracy_curve` and `compare` by the same name. Registered again, as a
    notebook's cell that is run twice does, a name stands for the later criterion.

    Args:
        criterion: A `klp.criteria.Criterion`: one of your own, or one of ours with other arguments
            and a name of its own, such as `LRP("lrp.epsilon", {"epsilon": 0.1}, name="stable")`.

    Raises:
        TypeError: If it is no such object, or one of its attributes is of another type.
        ValueError: If one of our criteria, or a method of `compare`, has its name, another name is
            the same but for capitals, or it is one with a meaning of its own (`"auto"`, `"none"`);
            or if one of its attributes has a value without a meaning.

    Example:
    >>> klp.register_criterion(klp.criteria.LRP("lrp.gamma", {"gamma": 0.1}, name="gentle"))
    >>> result = klp.prune(model, (x, y), 0.3, criterion="gentle")
    >>> klp.criteria.unregister_criterion("gentle")
    """
    check_described(criterion)
    name = criterion.name
    if is_ours(name):
        raise ValueError(f"{name!r} is a criterion of keras_lrp_prune. Give this one another name.")
    if name.lower() in _RESERVED:
        raise ValueError(f"The name {name!r} has a meaning of its own. Give it another name.")
    for known in CRITERIA:
        if known != name and known.lower() == name.lower():
            raise ValueError(
                f"There is a criterion {known!r}, and {name!r} is the same but for capitals. Give "
                "this one another name."
            )
    if name in LRP_METHODS:
        raise ValueError(
            f"{name!r} is a method of klp.compare, which has a criterion of its own. "
            "Give this criterion another name."
        )
    _REGISTERED[name] = criterion


def unregister_criterion(name: str) -> None:
    """Takes back what `register_criterion` did.

    Args:
        name: Of a criterion that was registered.

    Raises:
        ValueError: If no user registered a criterion of that name.

    Example:
    >>> klp.register_criterion(klp.criteria.LRP("lrp.z_plus", name="positive"))
    >>> klp.criteria.unregister_criterion("positive")
    """
    one_of("registered criterion", name, [known for known in CRITERIA if not is_ours(known)])
    del _REGISTERED[name]


def is_ours(name: str) -> bool:
    """Whether a name is that of a criterion of this package."""
    return any(one.name == name for one in _OURS)


def registered_config(criterion: object) -> dict[str, Any]:
    """The config of a criterion that a user registered, as a setting that tells runs apart.

    Its name alone does not: another criterion can be registered by the same name.

    Args:
        criterion: As `prune` takes it.

    Returns:
        `{"criterion_config": ...}` for the name of a user's criterion, else an empty dict.
    """
    if not isinstance(criterion, str) or criterion not in CRITERIA or is_ours(criterion):
        return {}
    return {"criterion_config": CRITERIA[criterion].get_config()}


def chosen_criterion(
    criterion: str | Criterion | None,
    *,
    analyzer_options: Mapping[str, Any] | None = None,
    engine: str = "auto",
    worker_python: str | None = None,
    refits_layers: bool = False,
    works_on: str = "channels",
) -> Criterion:
    """The criterion that arguments of `prune` ask for.

    Args:
        criterion: A name, an object, or `None`: of those that the engine can compute, the one
            that keeps accuracy best, where layers are refitted or where they are not.
        analyzer_options: Keyword arguments of an analyzer that is given by its name.
        engine: What computes LRP, for one that is given by its name.
        worker_python: Interpreter that has iNNvestigate, likewise.
        refits_layers: Whether layers are refitted, so that others can make up for what goes.
        works_on: What it is to score.

    Raises:
        TypeError: If `criterion` is neither, or one of its attributes is of another type.
        ValueError: For an unknown name or engine, options (or where LRP is computed) that the
            criterion does not take or that are given beside an object, or one that scores something
            else.
    """
    check_engine(engine)
    if criterion is None:
        native = UniqueContribution.name if refits_layers else LOG_ODDS
        criterion = DEFAULT_ANALYZER if engine == "innvestigate" else native
    if isinstance(criterion, str):
        one_of("criterion", criterion, CRITERIA)
        _check_takes_engine(CRITERIA[criterion], engine, worker_python)
        chosen = CRITERIA[criterion].configured(
            analyzer_options=analyzer_options or {}, engine=engine, worker_python=worker_python
        )
    else:
        check_described(criterion)
        given = {
            "analyzer_options": bool(analyzer_options),
            "engine": engine != "auto",
            "worker_python": worker_python is not None,
        }
        if beside := ", ".join(name for name, is_given in given.items() if is_given):
            raise ValueError(
                f"{beside}: for a criterion that is given by its name. Criterion "
                f"{criterion.name!r} is an object, which has its own: "
                "klp.criteria.LRP(analyzer, options, engine=..., worker_python=...)."
            )
        chosen = criterion
    if works_on not in chosen.works_on:
        raise ValueError(
            f"Criterion {chosen.name!r} scores {' and '.join(chosen.works_on)}, not {works_on}. "
            f"There are, for {works_on}: {', '.join(_working_on(works_on))}."
        )
    return chosen


def _check_takes_engine(criterion: Criterion, engine: str, worker_python: str | None) -> None:
    """Refuses arguments that have LRP computed by iNNvestigate where none is computed."""
    given = {"engine='innvestigate'": engine == "innvestigate", "worker_python": worker_python}
    beside = ", ".join(name for name, is_given in given.items() if is_given)
    if beside and "lrp" not in criterion.needs:
        raise ValueError(
            f"{beside}: for criteria by LRP. Criterion {criterion.name!r} computes none; leave it "
            "out."
        )


def compared(works_on: str) -> list[str]:
    """Names of the criteria that `compare` has a method for.

    Args:
        works_on: What they are to score.
    """
    return [name for name in _working_on(works_on) if CRITERIA[name].compared]


def check_described(criterion: object) -> None:
    """Checks the attributes of a criterion, and its config.

    Raises:
        TypeError: If it is no criterion, or something is of another type.
        ValueError: If an attribute has a value without a meaning.
    """
    if isinstance(criterion, type) and issubclass(criterion, Criterion):
        raise TypeError(
            f"criterion takes an object, not a class: {criterion.__name__}(), with its arguments."
        )
    if not isinstance(criterion, Criterion):
        raise TypeError(
            "criterion takes a name or a klp.criteria.Criterion, not "
            f"{reprlib.repr(criterion)} ({type(criterion).__name__})."
        )
    who = type(criterion).__name__
    for what, kind in _TYPES.items():
        value = getattr(criterion, what)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise TypeError(f"{who}.{what} takes {_NAMES[kind]}, not {value!r}.")
    for message in _wrong(criterion):
        raise ValueError(f"{who}.{message}")
    checked_config(who, criterion.get_config())


_TYPES: Mapping[str, type] = {
    "name": str,
    "help": str,
    "passes": int,
    "needs": tuple,
    "works_on": tuple,
    "one_shot": bool,
    "compared": bool,
    "refits_each_step": bool,
}
_NAMES = {str: "a string", int: "a whole number", tuple: "a tuple", bool: "True or False"}


def _wrong(criterion: Criterion) -> Iterator[str]:
    """What is wrong with the values of a criterion's attributes."""
    if not is_plain(criterion.name):
        yield (
            "name has letters, digits, '-', '_' and '.', and no '-' in front, unlike "
            f"{criterion.name!r}."
        )
    if not criterion.help.strip() or "\n" in criterion.help:
        yield f"help is one line, unlike {criterion.help!r}."
    if criterion.passes < 0:
        yield f"passes must be at least 0, not {criterion.passes}."
    for what, known, least in (("needs", NEEDS, 0), ("works_on", KINDS, 1)):
        value = getattr(criterion, what)
        if len(value) < least or any(entry not in known for entry in value):
            yield f"{what} is a tuple of {', '.join(map(repr, known))}, unlike {value!r}."


def _working_on(kind: str) -> list[str]:
    return [name for name, one in CRITERIA.items() if kind in one.works_on]
