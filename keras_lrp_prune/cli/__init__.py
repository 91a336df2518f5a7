"""The command line: `keras-lrp-prune demo | prune | relevance | explain | export`."""

from keras_lrp_prune.cli import export_command  # noqa: F401 - adds the command
from keras_lrp_prune.cli.commands import main

__all__ = ["main"]
