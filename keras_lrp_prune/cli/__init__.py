"""The command line: one program, `keras-lrp-prune`, and its commands."""

from keras_lrp_prune.cli.commands import app, main
from keras_lrp_prune.cli.export_command import export
from keras_lrp_prune.cli.profile_command import profile

app.command()(export)
app.command()(profile)

__all__ = ["main"]
