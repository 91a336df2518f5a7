"""A Keras model as data: nodes, edges, how each layer type passes channels on, channel groups."""
