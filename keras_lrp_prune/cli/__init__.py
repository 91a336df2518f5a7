"""The command line: `keras-lrp-prune demo | prune | relevance | explain`."""

from keras_lrp_prune.cli.commands import main

__all__ = ["main"]
