"""Layer-wise relevance propagation (LRP): how much each channel matters to each class."""
