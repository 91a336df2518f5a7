"""`keras-lrp-prune`: prune, compare, relevance, explain, demo; and the program itself.

Each command checks its options and files first, and imports TensorFlow, which takes seconds, when
they are right. It saves what it made before it prints anything.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_lrp_prune.cli import choices
from keras_lrp_prune.cli.options import (
    AntialiasOption,
    BatchOption,
    BudgetOption,
    ClassNamesOption,
    CriterionOption,
    DataArgument,
    EngineOption,
    ForceOption,
    ModelArgument,
    OverwriteOption,
    PerClassOption,
    PreprocessOption,
    ProtectOption,
    QuietOption,
    RecoveryOption,
    SeedOption,
    SizeOption,
    WeightsOption,
)
from keras_lrp_prune.cli.outcome import FAILED, better_than_chance, one_line_errors, say
from keras_lrp_prune.cli.program import Program
from keras_lrp_prune.cli.streams import import_tensorflow, own_streams, silence_libraries
from keras_lrp_prune.criteria.registry import CRITERIA
from keras_lrp_prune.relevance.analyzers import DEFAULT_ANALYZER, ENGINES

app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(asked: bool) -> None:
    if asked:
        from keras_lrp_prune import __version__

        say(f"keras-lrp-prune {__version__}")
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
        typer.Option(help="Share of the filters to remove, in [0, 1); default 0.5."),
    ] = None,
    budget: BudgetOption = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            help="Stop before the harmonic mean accuracy on DATA falls below this, before "
            "refitting: the model that is written is mostly better."
        ),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Folder of held-out images: reported, steers nothing.")
    ] = None,
    class_names: ClassNamesOption = None,
    per_class: PerClassOption = None,
    weights: WeightsOption = None,
    image_size: SizeOption = None,
    antialias: AntialiasOption = False,
    preprocess: PreprocessOption = None,
    criterion: CriterionOption = None,
    engine: EngineOption = "auto",
    recovery: RecoveryOption = "auto",
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
    overwrite: OverwriteOption = False,
    force: ForceOption = False,
    quiet: QuietOption = False,
) -> None:
    """Prune MODEL for the classes in DATA; write the smaller model to --out.

    Example: keras-lrp-prune prune MobileNet flowers/ --weights imagenet --per-class 20 --rate 0.5
    --out pruned/
    """
    said = dict(locals())
    from keras_lrp_prune.cli.places import CHECKPOINT, RECORD, RESULT, check_free
    from keras_lrp_prune.cli.task import check_numbers, checked_request, parsed_budget

    choices.check_choice("criterion", criterion, CRITERIA)
    choices.check_choice("engine", engine, ENGINES)
    choices.check_choice("recovery", recovery, choices.RECOVERIES)
    check_numbers(
        target_rate=rate, min_accuracy=min_accuracy, min_channels=min_channels, round_to=round_to
    )
    allowed = parsed_budget(budget, rate)
    outputs: dict[str, tuple[Path, Sequence[str]]] = {"--out": (out, RESULT)}
    if checkpoint_dir is not None:
        outputs["--checkpoint-dir"] = (checkpoint_dir, CHECKPOINT)
    request = checked_request(said, outputs)
    check_free("--out", out, RECORD, overwrite)

    import_tensorflow()
    from keras_lrp_prune.pruning import prune as prune_model

    task = request.load()
    with better_than_chance(force):
        result = prune_model(
            task.model,
            task.reference,
            rate,
            budget=allowed,
            min_accuracy=min_accuracy,
            validation=task.validation,
            class_names=task.class_names,
            criterion=criterion,
            engine=engine,
            recovery=choices.recovery(recovery),
            protect=protect or (),
            min_channels=min_channels,
            round_to=round_to,
            batch_size=batch_size,
            checkpoint_dir=checkpoint_dir,
            seed=seed,
            verbose=0 if quiet else 1,
        )
    result.save(out)
    result.summary()
    say(f"Written to {out}: {', '.join(RESULT)}. {task.wants}")


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
            help=f"{choices.alternatives(choices.METHODS)}; can be repeated. Default: "
            f"{', '.join(choices.DEFAULT_METHODS)}."
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
    class_names: ClassNamesOption = None,
    per_class: PerClassOption = None,
    weights: WeightsOption = None,
    image_size: SizeOption = None,
    antialias: AntialiasOption = False,
    preprocess: PreprocessOption = None,
    engine: EngineOption = "auto",
    recovery: RecoveryOption = "none",
    protect: ProtectOption = None,
    batch_size: BatchOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
) -> None:
    """Prune MODEL by several methods; measure each over the pruning rate on --test.

    Example: keras-lrp-prune compare MobileNet flowers/ --test held_out/ --per-class 20
    --seeds 0,1,2 --out comparison/
    """
    said = {**locals(), "validation": test}
    from keras_lrp_prune.cli.places import COMPARISON
    from keras_lrp_prune.cli.task import check_numbers, checked_request, numbers

    for name in method or ():
        choices.check_choice("method", name, choices.METHODS)
    choices.check_choice("engine", engine, ENGINES)
    choices.check_choice("recovery", recovery, choices.RECOVERIES)
    chosen_seeds = numbers(seeds, int, "--seeds")
    chosen_rates = None if rates is None else numbers(rates, float, "--rates")
    check_numbers(seeds=chosen_seeds, rates=chosen_rates)
    request = checked_request(said, {"--out": (out, COMPARISON)})

    import_tensorflow()
    from keras_lrp_prune.comparison import compare as compare_methods

    def task(seed: int) -> tuple[Any, Any, Any]:
        loaded = replace(request, seed=seed).load()
        return loaded.model, loaded.reference, loaded.validation

    with better_than_chance(force):
        comparison = compare_methods(
            task,
            method or choices.DEFAULT_METHODS,
            chosen_seeds,
            chosen_rates,
            folder=out,
            verbose=0 if quiet else 1,
            engine=engine,
            recovery=choices.recovery(recovery),
            protect=protect or (),
            batch_size=batch_size,
            class_names=request.classes,
        )
    comparison.save(out)
    comparison.summary()
    say(f"Written to {out}: {', '.join(COMPARISON)}.")


@app.command()
@one_line_errors
def relevance(
    model: ModelArgument,
    data: DataArgument,
    out: Annotated[Path, typer.Option(help="Folder for relevance.npz and heatmaps.png.")],
    analyzer: Annotated[str, typer.Option(help="An iNNvestigate analyzer.")] = DEFAULT_ANALYZER,
    class_names: ClassNamesOption = None,
    per_class: PerClassOption = None,
    weights: WeightsOption = None,
    image_size: SizeOption = None,
    antialias: AntialiasOption = False,
    preprocess: PreprocessOption = None,
    engine: EngineOption = "auto",
    batch_size: BatchOption = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Show how much each filter, and each pixel, of MODEL matters for the classes in DATA.

    Writes relevance.npz (layer name: an array of classes by filters) and heatmaps.png (one image
    of each class).
    """
    said = dict(locals())
    from keras_lrp_prune.cli.places import RELEVANCE, check_free
    from keras_lrp_prune.cli.task import checked_request
    from keras_lrp_prune.relevance.analyzers import check_analyzer

    choices.check_choice("engine", engine, ENGINES)
    check_analyzer(analyzer, {}, native=engine != "innvestigate")
    request = checked_request(said, {"--out": (out, RELEVANCE)})
    check_free("--out", out, "relevance.npz", overwrite)

    import_tensorflow()
    from keras_lrp_prune.cli.relevance_report import write_relevance
    from keras_lrp_prune.report import print_table, relevance_table

    found = write_relevance(
        request.load(), out, analyzer=analyzer, engine=engine, batch_size=batch_size
    )
    print_table(relevance_table(found, title=f"Filters by relevance ({analyzer})"))
    say(f"Written to {out}: {', '.join(RELEVANCE)}.")


@app.command()
@one_line_errors
def explain(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A .keras file, a folder that prune wrote, or a keras.applications backbone by "
            "name, with options after colons: [bold]MobileNet[/], [bold]MobileNet:alpha=0.75[/]; "
            "nothing is downloaded.",
        ),
    ],
    plot: Annotated[
        Path | None,
        typer.Option(
            help=f"Draw the channel groups here: {choices.alternatives(choices.PICTURES)}."
        ),
    ] = None,
    protect: ProtectOption = None,
    all_layers: Annotated[
        bool, typer.Option("--all", help="Show layers without weights too.")
    ] = False,
) -> None:
    """Show which filters of MODEL can be pruned, with which others, or why not."""
    from keras_lrp_prune.cli.places import check_output
    from keras_lrp_prune.cli.task import check_model, load_network, model_file

    check_model(model)
    if plot is not None:
        choices.check_picture(plot)
        check_output(plot, "--plot", inputs=[model_file(model)])

    import_tensorflow()
    from keras_lrp_prune.explaining import explain as explain_model
    from keras_lrp_prune.explaining import plot_channel_groups

    network = load_network(model)
    text = explain_model(network, protect or ()).to_text(all_layers)
    if plot is not None:
        plot_channel_groups(network, plot, protect or ())
    print(text)
    if plot is not None:
        say(f"Written to {plot}.")


@app.command()
@one_line_errors
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo_output"),
    seed: SeedOption = 0,
) -> None:
    """Train a digits classifier, remove half of its filters, compare; no download."""
    from keras_lrp_prune.cli.places import RESULT, check_output
    from keras_lrp_prune.cli.task import check_numbers

    check_numbers(seed=seed)
    check_output(out, "--out", names=RESULT)

    import_tensorflow()
    from keras_lrp_prune.demo import run_demo

    run_demo(out, seed)


def main(arguments: list[str] | None = None) -> Any:
    """Runs the command line; returns its exit code to the shell."""
    silence_libraries()
    code: Any = 0
    with own_streams() as output:
        try:
            app(arguments)
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        error = output.error
        if error is not None and error.errno != errno.EPIPE:
            print(f"Error: Cannot write to standard output: {error.strerror}.", file=sys.stderr)
            code = code or FAILED
    sys.exit(code)
