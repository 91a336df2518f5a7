"""What the library says of its arguments, the command line says of its options."""

import pytest

from keras_lrp_prune.cli.option_names import in_options, option_of

PARAMETERS = ["model", "data", "rate", "per_class", "checkpoint_dir", "recovery", "batch_size"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("fewer than per_class=6. Add", "fewer than --per-class 6. Add"),
        ("give recovery=None, or wait", "give --recovery none, or wait"),
        ("give recovery='head'.", "give --recovery head."),
        ("The recovery of layers", "The recovery of layers"),
        ("target_rate 0.5 cannot", "--rate 0.5 cannot"),
        ("give target_rate=0.25.", "give --rate 0.25."),
        ("give batch_sizes=(4,).", "give --batch-size 4."),
        ("give per_class= with fewer", "give --per-class with fewer"),
        ("Delete it or choose another checkpoint_dir.", "Delete it or choose another "
         "--checkpoint-dir."),
        ("runs/checkpoint_dir/a and 'checkpoint_dir'", "runs/checkpoint_dir/a and "
         "'checkpoint_dir'"),
        ("model=1, data=2, model.per_class, per_class.png", "model=1, data=2, model.per_class, "
         "per_class.png"),
        ("image_size= is of another command", "image_size= is of another command"),
    ],
)  # fmt: skip
def test_arguments_become_options(said, shown):
    assert in_options(said, PARAMETERS) == shown


def test_commands_without_options_say_what_the_library_says():
    assert in_options("per_class=6", []) == "per_class=6"
    assert option_of("target_rate") == "--rate"
