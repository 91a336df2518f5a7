"""Pictures and tables of plain records; knows no model."""

from keras_lrp_prune.report.plots import plot_curves, plot_heatmaps, plot_history
from keras_lrp_prune.report.tables import (
    before_after_table,
    class_table,
    print_table,
    relevance_table,
)

__all__ = [
    "before_after_table",
    "class_table",
    "plot_curves",
    "plot_heatmaps",
    "plot_history",
    "print_table",
    "relevance_table",
]
