"""`keras-lrp-prune`: prune, compare, relevance, explain, demo; what other commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
_P = ParamSpec("_P")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A .keras file, or a keras.applications backbone by name, with options after colons: "
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
    typer.Option(help="Side of the images in pixels, where the model does not fix it."),
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
PerClassOption = Annotated[
    int | None, typer.Option(help="Images drawn per class; default all.", min=1)
]
CriterionOption = Annotated[
    str | None,
    typer.Option(
        help="lrp.log_odds, an LRP analyzer, or pxp, l1, l2, taylor, activation, apoz, random.",
        show_default="lrp.log_odds",
    ),
]
RecoveryOption = Annotated[
    str | None,
    typer.Option(help="Refit what is left: head, least_squares or head+least_squares."),
]
SeedOption = Annotated[int, typer.Option(help="Seed of all draws.")]
ProtectOption = Annotated[
    list[str] | None, typer.Option(help="Layer to leave alone; can be repeated.")
]
BatchOption = Annotated[
    int | None, typer.Option(help="Images per batch; default: as many as 2 GiB hold.", min=1)
]


def one_line_errors(command: Callable[_P, None]) -> Callable[_P, None]:
    """Turns the errors that a user can mend into one line and an exit code."""

    @wraps(command)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            _fail(
                "interrupted; the same command goes on, if it is compare, or has --checkpoint-dir.",
                INTERRUPTED,
            )
        except (ValueError, TypeError, OSError, ImportError) as error:
            _fail(str(error), BAD_INPUT)
        except RuntimeError as error:  # the worker died, or a check of ours failed
            _fail(str(error), FAILED)

    return guarded


def _fail(message: str, code: int) -> None:
    typer.echo("Error: " + " ".join(message.split()), err=True)
    raise typer.Exit(code)


def _print_version(asked: bool) -> None:
    if asked:
        from keras_lrp_prune import __version__

        typer.echo(f"keras-lrp-prune {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Remove the filters of a Keras CNN that your task does not need."""


@app.command()
@one_line_errors
def prune(
    model: ModelArgument,
    data: DataArgument,
    out: Annotated[Path, typer.Option(help="Folder for the result.")],
    rate: Annotated[
        float | None,
        typer.Option(help="Share of the filters to remove, in [0, 1).", show_default="0.5"),
    ] = None,
    budget: BudgetOption = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(help="Stop before the harmonic mean accuracy on DATA falls below this."),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Folder of held-out images: reported, steers nothing.")
    ] = None,
    per_class: PerClassOption = None,
    weights: WeightsOption = None,
    image_size: SizeOption = None,
    preprocess: PreprocessOption = None,
    criterion: CriterionOption = None,
    engine: Annotated[
        str, typer.Option(help="What computes LRP: auto, innvestigate or native.")
    ] = "auto",
    recovery: RecoveryOption = None,
    protect: ProtectOption = None,
    min_channels: Annotated[
        float, typer.Option(help="Channels that every group keeps: a number, or a share below 1.")
    ] = 1,
    round_to: Annotated[int, typer.Option(help="Keep widths at a multiple of this.")] = 1,
    checkpoint_dir: Annotated[
        Path | None, typer.Option(help="Save each step here; the same command goes on.")
    ] = None,
    batch_size: BatchOption = None,
    seed: SeedOption = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Prune MODEL for the classes in DATA; write the smaller model to --out.

    Example: keras-lrp-prune prune MobileNet flowers/ --weights imagenet --per-class 20 --rate 0.2
    --out pruned/
    """
    from keras_lrp_prune.cli.task import load_task, parsed_budget
    from keras_lrp_prune.files import check_writable
    from keras_lrp_prune.pruning import prune as prune_model

    allowed = parsed_budget(budget, rate)
    check_writable(out)
    task = load_task(
        model,
        data,
        validation=validation,
        per_class=per_class,
        weights=weights,
        image_size=image_size,
        preprocess=preprocess,
        batch_size=batch_size,
        seed=seed,
    )
    result = prune_model(
        task.model,
        task.reference,
        rate,
        budget=allowed,
        min_accuracy=min_accuracy,
        validation=task.validation,
        criterion=criterion,
        engine=engine,
        recovery=recovery,
        protect=protect or (),
        min_channels=int(min_channels) if min_channels.is_integer() else min_channels,
        round_to=round_to,
        batch_size=batch_size,
        checkpoint_dir=checkpoint_dir,
        seed=seed,
        verbose=0 if quiet else 1,
    )
    result.summary(task.class_names)
    result.save(out)
    typer.echo(f"Written to {out}: model.keras, result.json, curve.png. {task.wants}")


@app.command()
@one_line_errors
def compare(
    model: ModelArgument,
    data: DataArgument,
    test: Annotated[Path, typer.Option(help="Folder of held-out images, which measure.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the results; finished runs are kept there.")
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="accuracy-aware, lrp-iterative, lrp-one-shot, pxp, taylor, activation, apoz, l1, "
            "l2 or random; can be repeated. Default: accuracy-aware, lrp-iterative, taylor, l1, "
            "random."
        ),
    ] = None,
    seeds: Annotated[
        str,
        typer.Option(help="Seeds, with commas between; each draws another --per-class of DATA."),
    ] = "0",
    rates: Annotated[
        str | None,
        typer.Option(help="Pruning rates, with commas between; default 0 to 0.95 by 0.05."),
    ] = None,
    per_class: PerClassOption = None,
    weights: WeightsOption = None,
    image_size: SizeOption = None,
    preprocess: PreprocessOption = None,
    engine: Annotated[
        str, typer.Option(help="What computes LRP: auto, innvestigate or native.")
    ] = "auto",
    recovery: RecoveryOption = None,
    protect: ProtectOption = None,
    batch_size: BatchOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Prune MODEL by several methods; measure each over the pruning rate on --test.

    Example: keras-lrp-prune compare MobileNet flowers/ --test held_out/ --per-class 20
    --seeds 0,1,2 --out comparison/
    """
    from keras_lrp_prune.cli.task import load_task, numbers
    from keras_lrp_prune.comparison import DEFAULT_METHODS
    from keras_lrp_prune.comparison import compare as compare_methods

    def task(seed: int) -> tuple[Any, Any, Any]:
        loaded = load_task(
            model,
            data,
            validation=test,
            per_class=per_class,
            weights=weights,
            image_size=image_size,
            preprocess=preprocess,
            batch_size=batch_size,
            seed=seed,
        )
        return loaded.model, loaded.reference, loaded.validation

    comparison = compare_methods(
        task,
        method or DEFAULT_METHODS,
        numbers(seeds, int, "--seeds"),
        None if rates is None else numbers(rates, float, "--rates"),
        folder=out,
        verbose=0 if quiet else 1,
        engine=engine,
        recovery=recovery,
        protect=protect or (),
        batch_size=batch_size,
    )
    comparison.summary()
    comparison.save(out)
    typer.echo(f"Written to {out}: comparison.json, curves.png, harmonic.png.")


@app.command()
@one_line_errors
def relevance(
    model: ModelArgument,
    data: DataArgument,
    out: Annotated[Path, typer.Option(help="Folder for relevance.npz and heatmaps.png.")],
    analyzer: Annotated[
        str, typer.Option(help="An iNNvestigate analyzer.")
    ] = "lrp.sequential_preset_a",
    per_class: PerClassOption = None,
    weights: WeightsOption = None,
    image_size: SizeOption = None,
    preprocess: PreprocessOption = None,
    engine: Annotated[
        str, typer.Option(help="What computes LRP: auto, innvestigate or native.")
    ] = "auto",
    batch_size: BatchOption = None,
    seed: SeedOption = 0,
) -> None:
    """Show how much each filter, and each pixel, of MODEL matters for the classes in DATA.

    Writes relevance.npz (layer name: an array of classes by filters) and heatmaps.png (one image
    of each class).
    """
    from keras_lrp_prune.cli.relevance_report import write_relevance
    from keras_lrp_prune.cli.task import load_task
    from keras_lrp_prune.files import check_writable

    check_writable(out)
    task = load_task(
        model,
        data,
        per_class=per_class,
        weights=weights,
        image_size=image_size,
        preprocess=preprocess,
        batch_size=batch_size,
        seed=seed,
    )
    write_relevance(task, out, analyzer=analyzer, engine=engine, batch_size=batch_size)
    typer.echo(f"Written to {out}: relevance.npz, heatmaps.png.")


@app.command()
@one_line_errors
def explain(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A .keras file, or a keras.applications backbone by name, with options after "
            "colons: [bold]MobileNet[/], [bold]MobileNet:alpha=0.75[/]; nothing is downloaded.",
        ),
    ],
    plot: Annotated[
        Path | None, typer.Option(help="Draw the channel groups here: .png, .svg or .pdf.")
    ] = None,
    protect: ProtectOption = None,
    all_layers: Annotated[
        bool, typer.Option("--all", help="Show layers without weights too.")
    ] = False,
) -> None:
    """Show which filters of MODEL can be pruned, with which others, or why not."""
    from keras_lrp_prune.cli.task import load_network
    from keras_lrp_prune.explaining import explain as explain_model
    from keras_lrp_prune.explaining import plot_channel_groups
    from keras_lrp_prune.report import check_path

    if plot is not None:
        check_path(plot)
    network = load_network(model)
    typer.echo(explain_model(network, protect or ()).to_text(all_layers))
    if plot is not None:
        plot_channel_groups(network, plot, protect or ())
        typer.echo(f"Written to {plot}.")


@app.command()
@one_line_errors
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo_output"),
    seed: SeedOption = 0,
) -> None:
    """Train a digits classifier, remove half of its filters, compare; no download."""
    from keras_lrp_prune.demo import run_demo

    run_demo(out, seed)


def main(arguments: list[str] | None = None) -> Any:
    """Runs the command line; returns its exit code to the shell."""
    sys.exit(app(arguments))
