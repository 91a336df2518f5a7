"""Pictures and tables of plain records; knows no model."""

from keras_lrp_prune.report.figures import check_path
from keras_lrp_prune.report.graphs import Box, plot_graph
from keras_lrp_prune.report.plots import plot_curves, plot_heatmaps, plot_history
from keras_lrp_prune.report.tables import (
    before_after_table,
    class_table,
    comparison_table,
    enumeration,
    layer_table,
    print_table,
    ratio_table,
    reason_lines,
    relevance_table,
    table_text,
)

__all__ = [
    "Box",
    "before_after_table",
    "check_path",
    "class_table",
    "comparison_table",
    "enumeration",
    "layer_table",
    "plot_curves",
    "plot_graph",
    "plot_heatmaps",
    "plot_history",
    "print_table",
    "ratio_table",
    "reason_lines",
    "relevance_table",
    "table_text",
]
