"""The command line: `keras-lrp-prune demo | prune | relevance`."""

from keras_lrp_prune.cli.commands import main

__all__ = ["main"]
