"""LRP in TensorFlow operations: rules, composites (which rule where), and the engine."""
