"""The command line: one program, `keras-lrp-prune`, and its commands."""

from keras_lrp_prune.cli import export_command, profile_command  # noqa: F401 - add their commands
from keras_lrp_prune.cli.commands import main

__all__ = ["main"]
