"""Pictures and tables of plain records; knows no model."""

from keras_lrp_prune.report.bars import plot_losses
from keras_lrp_prune.report.graphs import Box, plot_graph
from keras_lrp_prune.report.html import html_report
from keras_lrp_prune.report.layer_table import LayerTable
from keras_lrp_prune.report.plots import plot_curves, plot_heatmaps, plot_history
from keras_lrp_prune.report.tables import (
    before_after_table,
    class_table,
    comparison_table,
    enumeration,
    mean_and_spread,
    print_table,
    ratio_table,
    reason_lines,
    relevance_table,
    table_text,
)

__all__ = [
    "Box",
    "LayerTable",
    "before_after_table",
    "class_table",
    "comparison_table",
    "enumeration",
    "html_report",
    "mean_and_spread",
    "plot_curves",
    "plot_graph",
    "plot_heatmaps",
    "plot_history",
    "plot_losses",
    "print_table",
    "ratio_table",
    "reason_lines",
    "relevance_table",
    "table_text",
]
