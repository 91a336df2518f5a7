"""What `keras-lrp-prune relevance` writes."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keras_lrp_prune.cli.task import Task
from keras_lrp_prune.files import new_file
from keras_lrp_prune.relevance.attribution import filter_relevance, input_relevance
from keras_lrp_prune.report import plot_heatmaps


def write_relevance(
    task: Task, folder: Path, *, analyzer: str, engine: str, batch_size: int | None
) -> Mapping[str, np.ndarray]:
    """Computes filter and input relevances and writes both.

    Args:
        task: The model and its images.
        folder: Where `relevance.npz` and `heatmaps.png` go.
        analyzer: As in `filter_relevance`.
        engine: As in `filter_relevance`.
        batch_size: As in `filter_relevance`.

    Returns:
        Layer name to an array `(classes, filters)`.
    """
    x, y = task.reference
    found = filter_relevance(
        task.model, x, y, analyzer=analyzer, engine=engine, batch_size=batch_size
    )
    first = [int(np.flatnonzero(y == label)[0]) for label in range(len(task.class_names))]
    heat = input_relevance(task.model, x[first], y[first], analyzer=analyzer, engine=engine)
    with new_file(folder / "relevance.npz") as file:
        write_arrays(file, found)
    plot_heatmaps(
        task.images.x[first] / 255, {analyzer: heat}, folder / "heatmaps.png", task.class_names
    )
    return found


def write_arrays(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a `.npz` file; unlike `np.savez`, of arrays of any names, such as `file`, too."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
