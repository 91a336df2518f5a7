"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_lrp_prune.cli.choices import BASELINES, RECOVERIES, alternatives
from keras_lrp_prune.criteria.registry import CRITERIA
from keras_lrp_prune.relevance.analyzers import ENGINES

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A .keras file, a folder that prune wrote, or a keras.applications backbone by name, "
        "with options after colons: "
        "[bold]MobileNet[/], [bold]MobileNet:alpha=0.75[/]. A backbone gets a linear head, "
        "fitted on the features of the images in DATA.",
    ),
]
DataArgument = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder with one sub-folder of images per class.")
]
WeightsOption = Annotated[
    str | None,
    typer.Option(help="Weights of a named backbone: [bold]imagenet[/] (default) or a .h5 file."),
]
SizeOption = Annotated[
    int | None,
    typer.Option(help="Side of the images in pixels, where the model does not fix it.", min=1),
]
AntialiasOption = Annotated[
    bool,
    typer.Option(
        "--antialias",
        help="Resize images as Pillow does, averaging where they get smaller; default: as "
        "keras.utils.image_dataset_from_directory does.",
    ),
]
PreprocessOption = Annotated[
    str | None,
    typer.Option(
        help="What the model wants: [bold]none[/] (0..255), [bold]unit[/] (0..1), "
        "[bold]symmetric[/] (-1..1), or the module of a keras.applications model, such as "
        "[bold]vgg16[/]. Default: the named backbone's own; none for a file.",
    ),
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Instead of --rate: what may remain of a cost, such as [bold]flops=0.5[/]; filters, "
        "params, flops, energy or latency; can be repeated.",
    ),
]
ClassNamesOption = Annotated[
    str | None,
    typer.Option(
        help="Names of the class folders, with commas between, in the order of the model's "
        "outputs. Default: the order that a folder of prune knows; else sorted."
    ),
]
PerClassOption = Annotated[
    int | None, typer.Option(help="Images drawn per class; default all.", min=1)
]
CriterionOption = Annotated[
    str | None,
    typer.Option(
        help="What scores filters: lrp.unique, lrp.log_odds, an LRP analyzer, "
        + alternatives([f"{name} ({CRITERIA[name].help})" for name in BASELINES])
        + "; default lrp.unique where layers are refitted, else lrp.log_odds.",
    ),
]
RecoveryOption = Annotated[
    str, typer.Option(help=f"Refit what is left, without training: {alternatives(RECOVERIES)}.")
]
EngineOption = Annotated[str, typer.Option(help=f"What computes LRP: {alternatives(ENGINES)}.")]
SeedOption = Annotated[int, typer.Option(help="Seed of all draws.")]
ProtectOption = Annotated[
    list[str] | None, typer.Option(help="Layer to leave alone; can be repeated.")
]
BatchOption = Annotated[
    int | None, typer.Option(help="Images per batch; default: as many as 2 GiB hold.", min=1)
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress.")]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the result that --out holds.")
]
ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Go on with a model that is no better than guesses on DATA."),
]
