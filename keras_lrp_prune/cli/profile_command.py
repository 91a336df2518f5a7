"""`keras-lrp-prune profile`: what models cost, side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from keras_lrp_prune.cli.options import SizeOption
from keras_lrp_prune.cli.outcome import one_line_errors
from keras_lrp_prune.cli.streams import held_back, import_tensorflow
from keras_lrp_prune.display_names import printable

if TYPE_CHECKING:
    from keras_lrp_prune.profiling import Profile

_SAVED_MODEL = "saved_model.pb"


@one_line_errors
def profile(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="A .keras file, a folder that prune wrote, the folder of a SavedModel, a .tflite "
            "file, or a keras.applications backbone by name; those behind the first get ratios to "
            "it.",
        ),
    ],
    batch_size: Annotated[
        list[int] | None,
        typer.Option(help="Batch size to measure; can be repeated; default 1 and 32."),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads that may compute.")] = 1,
    repeats: Annotated[int, typer.Option(help="Timed calls of each batch size.")] = 50,
    image_size: SizeOption = None,
) -> None:
    """Show parameters, FLOPs, size, latency, memory and an energy estimate of each MODEL.

    Example: keras-lrp-prune profile model.keras pruned/model.keras pruned/model.tflite
    """
    from keras_lrp_prune.cli.task import check_numbers

    sizes = batch_size or [1, 32]
    check_numbers(batch_sizes=sizes, threads=threads, repeats=repeats)
    for name in models:
        _check(name)

    import_tensorflow()
    from keras_lrp_prune.profiling import profile_table

    shape = None if image_size is None else (image_size, image_size, 3)
    options = {"batch_sizes": sizes, "threads": threads, "repeats": repeats, "input_shape": shape}
    profiles = {}
    with held_back():
        for name, title in zip(models, _titles(models), strict=True):
            with _shown(f"measuring {title} ..."):
                profiles[title] = _profile(name, options)
    profile_table(profiles)


def _shown(doing: str) -> Status:
    """Shows what is done while it lasts, in a terminal only."""
    return Console(stderr=True).status(Text(printable(doing)))


def _check(name: str) -> None:
    """Raises `DataError` if there is nothing of that name that can be profiled."""
    from keras_lrp_prune.cli.task import check_model

    if not _is_exported(name):
        check_model(name)


def _is_exported(name: str) -> bool:
    """Whether it is a `.tflite` file or the folder of a SavedModel."""
    path = Path(name)
    return (path / _SAVED_MODEL).is_file() or (path.is_file() and path.suffix == ".tflite")


def _profile(name: str, options: Mapping[str, Any]) -> Profile:
    from keras_lrp_prune.cli.task import load_network, model_file
    from keras_lrp_prune.profiling import profile as profile_model

    if _is_exported(name):
        return profile_model(name, **options)
    found, file = profile_model(load_network(name), **options), model_file(name)
    # The file has what it was saved with, such as an optimizer's state.
    return found if file is None else replace(found, file_size=file.stat().st_size)


def _titles(models: list[str]) -> list[str]:
    """The names without the folder that all files are in; a number tells equal ones apart."""
    files = {name: os.path.abspath(name) for name in models if os.path.exists(name)}
    shared = os.path.commonpath(map(os.path.dirname, files.values())) if files else ""
    titles = [os.path.relpath(files[name], shared) if name in files else name for name in models]
    return [
        title if titles.count(title) == 1 else f"{title} ({number})"
        for number, title in enumerate(titles, 1)
    ]
