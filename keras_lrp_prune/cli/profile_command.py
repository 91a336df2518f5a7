"""`keras-lrp-prune profile`: what models cost, side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from keras_lrp_prune.cli.commands import one_line_errors


@one_line_errors
def profile(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="A .keras file, the folder of a SavedModel, a .tflite file, or a "
            "keras.applications backbone by name; those behind the first get ratios to it.",
        ),
    ],
    batch_size: Annotated[
        list[int] | None,
        typer.Option(help="Batch size to measure; can be repeated.", show_default="1, 32"),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads that may compute.")] = 1,
    repeats: Annotated[int, typer.Option(help="Timed calls of each batch size.")] = 50,
    image_size: Annotated[
        int | None, typer.Option(help="Side of RGB images in pixels, where a model leaves it open.")
    ] = None,
) -> None:
    """Show parameters, FLOPs, size, latency, memory and an energy estimate of each MODEL.

    Example: keras-lrp-prune profile model.keras pruned/model.keras pruned/model.tflite
    """
    from keras_lrp_prune.cli.task import load_network
    from keras_lrp_prune.profiling import profile as profile_model
    from keras_lrp_prune.profiling import profile_table

    profiles = {}
    for name, title in zip(models, _titles(models), strict=True):
        is_exported = Path(name).exists() and Path(name).suffix not in (".keras", ".h5")
        profiles[title] = profile_model(
            name if is_exported else load_network(name),
            batch_sizes=batch_size or (1, 32),
            threads=threads,
            repeats=repeats,
            input_shape=None if image_size is None else (image_size, image_size, 3),
        )
    profile_table(profiles)


def _titles(models: list[str]) -> list[str]:
    """The names without the folder that all are in; a number tells equal ones apart."""
    shared = os.path.commonpath([os.path.dirname(name) for name in models])
    titles = [os.path.relpath(name, shared) if shared else name for name in models]
    return [
        title if titles.count(title) == 1 else f"{title} ({number})"
        for number, title in enumerate(titles, 1)
    ]
