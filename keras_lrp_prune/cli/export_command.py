"""`keras-lrp-prune export`: a model for TensorFlow Serving and LiteRT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from keras_lrp_prune.cli import choices
from keras_lrp_prune.cli.options import (
    AntialiasOption,
    ClassNamesOption,
    PerClassOption,
    PreprocessOption,
    SeedOption,
    SizeOption,
)
from keras_lrp_prune.cli.outcome import better_than_chance, one_line_errors, say
from keras_lrp_prune.cli.streams import held_back, import_tensorflow

if TYPE_CHECKING:
    import keras

    from keras_lrp_prune.cli.task import Task


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
        typer.Option(
            help=f"Of the LiteRT file: {choices.alternatives(choices.QUANTIZATIONS)}; default "
            "float32."
        ),
    ] = None,
    io: Annotated[
        str,
        typer.Option(
            help=f"What an int8 file takes and returns: {choices.alternatives(choices.IO_TYPES)}."
        ),
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
    antialias: AntialiasOption = False,
    preprocess: PreprocessOption = None,
    image_size: SizeOption = None,
    class_names: ClassNamesOption = None,
    per_class: PerClassOption = None,
    seed: SeedOption = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file that --litert names.")
    ] = False,
) -> None:
    """Write MODEL for TensorFlow Serving, for LiteRT, or for both.

    Example: keras-lrp-prune export pruned/ --saved-model serving/flowers/1 --litert flowers.tflite
    --quantize int8 --representative flowers/ --preprocess mobilenet
    """
    from keras_lrp_prune.cli.class_order import split_names
    from keras_lrp_prune.cli.places import check_free
    from keras_lrp_prune.cli.task import Request, check_preprocess, load_file

    _check_together(saved_model, litert, representative, quantize, io, test, warmup, class_names)
    file = _checked_file(model)

    def images(folder: Path | None, count: int | None) -> Request | None:
        if folder is None:
            return None
        return Request(
            model,
            folder,
            class_names=split_names(class_names),
            per_class=count,
            image_size=image_size,
            antialias=antialias,
            preprocess=preprocess,
            seed=seed,
        )

    # Ranges are measured on images that are drawn, accuracies on all held-out ones.
    asked = [images(representative, per_class), images(test, None)]
    if preprocess is not None:
        check_preprocess(preprocess)
    for request in filter(None, asked):
        request.check()
    _check_places(saved_model, litert, file, [representative, test])
    if litert is not None:
        check_free("--litert", litert.parent, litert.name, overwrite)

    import_tensorflow()
    network = load_file(file)
    task, held_out = (None if request is None else request.load() for request in asked)
    if saved_model is not None:
        _write_saved_model(
            network,
            saved_model,
            preprocess=preprocess or "none" if uint8_images else None,
            labels=split_names(labels),
            task=task if warmup else None,
        )
        say(f"Written: {saved_model}")
    if litert is not None:
        with held_back():
            _write_litert(network, litert, task, quantize=quantize, io=io, batch_size=batch_size)
        say(f"Written: {litert}")
        if held_out is not None:
            _compare(held_out, litert)


def _check_together(
    saved_model: Path | None,
    litert: Path | None,
    representative: Path | None,
    quantize: str | None,
    io: str,
    test: Path | None,
    warmup: bool,
    class_names: str | None,
) -> None:
    """Raises for options that are unknown or do not go together."""
    from keras_lrp_prune.data import DataError

    problems = {
        "Give --saved-model, --litert or both.": saved_model is None and litert is None,
        "--quantize is for --litert.": quantize is not None and litert is None,
        "--quantize int8 needs --representative.": quantize == "int8" and representative is None,
        "--warmup is for --saved-model.": warmup and saved_model is None,
        "--warmup needs --representative.": warmup and representative is None,
        "--test is for --litert.": test is not None and litert is None,
        "--class-names is for --representative and --test.": class_names is not None
        and representative is None
        and test is None,
    }
    for problem, found in problems.items():
        if found:
            raise DataError(problem)
    choices.check_choice("quantization", quantize, choices.QUANTIZATIONS)
    choices.check_choice("type of --io", io, choices.IO_TYPES)


def _checked_file(model: str) -> Path:
    """The file that a `MODEL` leads to, which has to be there."""
    from keras_lrp_prune.cli.task import check_model, model_file
    from keras_lrp_prune.data import DataError

    file = model_file(model)
    if file is None:
        raise DataError(f"There is no model file {model}.")
    check_model(model)
    return file


def _check_places(
    saved_model: Path | None, litert: Path | None, file: Path, images: list[Path | None]
) -> None:
    """Raises for places that nothing can be written to, or where an input lies."""
    from keras_lrp_prune.cli.places import check_output

    folders = [folder for folder in images if folder is not None]
    for path, option in ((saved_model, "--saved-model"), (litert, "--litert")):
        if path is not None:
            check_output(path, option, inputs=[file], images=folders)
    from keras_lrp_prune.export.destinations import check_file, check_version

    if saved_model is not None:
        check_version(saved_model.absolute())
    if litert is not None:
        check_file(litert.absolute(), ".tflite")


def _write_saved_model(
    network: keras.Model,
    path: Path,
    *,
    preprocess: str | None,
    labels: Sequence[str] | None,
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

    with better_than_chance(force=True), held_back():
        found = compare_litert(task.model, path, replace(task.images, x=task.reference[0]))
    found.summary()
