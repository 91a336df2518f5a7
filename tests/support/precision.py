"""The precisions that models are built in."""

# Largest difference between two ways to compute the same outputs, relative to the largest one.
TOLERANCE = {"float64": 1e-9, "float32": 1e-3}
