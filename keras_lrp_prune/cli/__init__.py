"""The command line: `keras-lrp-prune demo | prune | compare | profile | relevance | explain`."""

from keras_lrp_prune.cli import profile_command  # noqa: F401 - adds its command
from keras_lrp_prune.cli.commands import main

__all__ = ["main"]
