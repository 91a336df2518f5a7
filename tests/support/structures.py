"""Channel structures without a model."""

import numpy as np
from hypothesis import strategies as st

from keras_lrp_prune.graph.channels import ChannelGroup, ChannelStructure
from keras_lrp_prune.selection.limits import Limits


def structure_of(sizes):
    """A structure of groups `(channels, filters of each)`; one layer for each group."""
    groups, filter_units, start = [], {}, 0
    for number, (channels, filters) in enumerate(sizes):
        units = np.arange(start, start + channels)
        start += channels
        layer = f"layer{number}"
        filter_units[layer] = np.repeat(units, filters)
        positions = np.arange(channels * filters).reshape(channels, filters)
        groups.append(ChannelGroup(layer, units, {layer: positions}))
    return ChannelStructure(tuple(groups), filter_units, (), (), {}, {}, {})


LIMITS = st.builds(
    Limits,
    st.integers(1, 5) | st.floats(0, 1, exclude_min=True, exclude_max=True),
    st.integers(1, 5),
)
