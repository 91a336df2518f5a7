"""`keras-lrp-prune export`: a model for TensorFlow Serving and LiteRT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from keras_lrp_prune.cli.commands import (
    PerClassOption,
    PreprocessOption,
    SeedOption,
    SizeOption,
    one_line_errors,
)

if TYPE_CHECKING:
    import keras

    from keras_lrp_prune.cli.task import Task


@dataclass(frozen=True)
class _Images:
    """Where images come from and how the model takes them: options of the command."""

    model: str
    image_size: int | None
    preprocess: str | None
    per_class: int | None
    seed: int

    def task(self, folder: Path) -> Task:
        """The model and the images of a folder."""
        from keras_lrp_prune.cli.task import load_task

        return load_task(
            self.model,
            folder,
            per_class=self.per_class,
            image_size=self.image_size,
            preprocess=self.preprocess,
            seed=self.seed,
        )


@one_line_errors
def export(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A .keras file, or the folder that prune wrote."),
    ],
    saved_model: Annotated[
        Path | None,
        typer.Option(
            help="Version folder for TensorFlow Serving: [bold]serving/my_model/1[/]; "
            "must not exist."
        ),
    ] = None,
    litert: Annotated[Path | None, typer.Option(help="File for LiteRT: .tflite.")] = None,
    representative: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images, one sub-folder per class: the ranges of int8 are measured on "
            "them, and --warmup sends them."
        ),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(help="Of the LiteRT file: float16, dynamic or int8; default float32."),
    ] = None,
    io: Annotated[
        str, typer.Option(help="What an int8 file takes and returns: int8, uint8 or float32.")
    ] = "int8",
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images per call of the LiteRT file; default open.", min=1),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="Folder of held-out images: prints the accuracy of each class by the model and "
            "the LiteRT file."
        ),
    ] = None,
    uint8_images: Annotated[
        bool,
        typer.Option(
            "--uint8-images",
            help="The SavedModel takes images of 0..255 and does --preprocess itself.",
        ),
    ] = False,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Names of the classes, with commas between, in the order of the outputs: the "
            "SavedModel returns the best one's too."
        ),
    ] = None,
    warmup: Annotated[
        bool,
        typer.Option("--warmup", help="Put warm-up requests into the SavedModel."),
    ] = False,
    preprocess: PreprocessOption = None,
    image_size: SizeOption = None,
    per_class: PerClassOption = None,
    seed: SeedOption = 0,
) -> None:
    """Write MODEL for TensorFlow Serving, for LiteRT, or for both.

    Example: keras-lrp-prune export pruned/ --saved-model serving/flowers/1 --litert flowers.tflite
    --quantize int8 --representative flowers/ --preprocess mobilenet
    """
    from keras_lrp_prune.cli.task import load_file

    _check(saved_model, litert, representative, quantize, io, test, warmup)
    network = load_file(Path(model))
    images = _Images(model, image_size, preprocess, per_class, seed)
    task = None if representative is None else images.task(representative)
    held_out = None if test is None else images.task(test)
    if saved_model is not None:
        _write_saved_model(
            network,
            saved_model,
            preprocess=preprocess or "none" if uint8_images else None,
            labels=None if labels is None else labels.split(","),
            task=task if warmup else None,
        )
        typer.echo(f"Written: {saved_model}")
    if litert is not None:
        _write_litert(network, litert, task, quantize=quantize, io=io, batch_size=batch_size)
        typer.echo(f"Written: {litert}")
        if held_out is not None:
            _compare(held_out, litert)


def _check(
    saved_model: Path | None,
    litert: Path | None,
    representative: Path | None,
    quantize: str | None,
    io: str,
    test: Path | None,
    warmup: bool,
) -> None:
    """Raises for what would fail after something has been written."""
    from keras_lrp_prune.data import DataError
    from keras_lrp_prune.export.converting import check_options
    from keras_lrp_prune.export.publishing import check_file, check_version

    problems = {
        "Give --saved-model, --litert or both.": saved_model is None and litert is None,
        "--quantize is for --litert.": quantize is not None and litert is None,
        "--quantize int8 needs --representative.": quantize == "int8" and representative is None,
        "--warmup is for --saved-model.": warmup and saved_model is None,
        "--warmup needs --representative.": warmup and representative is None,
        "--test is for --litert.": test is not None and litert is None,
    }
    for problem, found in problems.items():
        if found:
            raise DataError(problem)
    if saved_model is not None:
        check_version(saved_model.absolute())
    if litert is not None:
        check_options(quantize, io, representative)
        check_file(litert.absolute(), ".tflite")


def _write_saved_model(
    network: keras.Model,
    path: Path,
    *,
    preprocess: str | None,
    labels: list[str] | None,
    task: Task | None,
) -> None:
    from keras_lrp_prune.cli.task import preprocessing
    from keras_lrp_prune.export import saved_model

    options: dict[str, Any] = {"labels": labels}
    if preprocess is not None:
        options["preprocessing"] = preprocessing(preprocess)
    if task is not None:
        options["warmup"] = task.reference[0] if preprocess is None else _as_uint8(task)
    saved_model(network, path, **options)


def _as_uint8(task: Task) -> np.ndarray:
    """The images as clients send them."""
    from keras_lrp_prune.cli.task import in_channels

    channels = task.model.inputs[0].shape[-1]
    return np.round(in_channels(task.images.x, channels)).clip(0, 255).astype(np.uint8)


def _write_litert(
    network: keras.Model,
    path: Path,
    task: Task | None,
    *,
    quantize: Any,
    io: Any,
    batch_size: int | None,
) -> None:
    from keras_lrp_prune.export import litert

    litert(
        network,
        path,
        quantize=quantize,
        representative=None if task is None else task.reference,
        io=io,
        batch_size=batch_size,
    )


def _compare(task: Task, path: Path) -> None:
    from keras_lrp_prune.export import compare_litert

    found = compare_litert(task.model, path, task.reference)
    found.summary(task.class_names)
