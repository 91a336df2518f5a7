"""Energy of an inference, estimated from public figures for single operations.

The figures are those of a 45 nm process: M. Horowitz, "Computing's energy problem (and what we can
do about it)", ISSCC 2014, doi:10.1109/ISSCC.2014.6757323, to the digits given in figure 15 of
S. Kim et al., "Full stack optimization of transformer inference: a survey", arXiv:2302.14017; with
the memory read as tabulated there, and by S. Han et al., "Learning both weights and connections
for efficient neural networks", arXiv:1506.02626.
"""

from __future__ import annotations

from dataclasses import dataclass

DRAM_READ = 640e-12 / 4  # joules per byte: 640 pJ for 32 bits


@dataclass(frozen=True)
class Arithmetic:
    """What one operation takes.

    Args:
        multiply: Joules for a multiplication.
        add: Joules for an addition.
    """

    multiply: float
    add: float


ARITHMETIC = {
    "float32": Arithmetic(multiply=3.7e-12, add=0.9e-12),
    "float16": Arithmetic(multiply=1.1e-12, add=0.4e-12),
    "int8": Arithmetic(multiply=0.2e-12, add=0.03e-12),
}


def energy(flops: float, weight_bytes: float, dtype: str = "float32") -> float:
    """Estimates the energy of one inference of one sample.

    An estimate to compare models by, not a measurement: one half of the operations count as
    multiplications and the other as additions, every weight is read from main memory once, and
    intermediate results, caches, control and idle power cost nothing. Today's processes take less
    energy for each operation; how the operations compare has changed less.

    Args:
        flops: Floating-point (or integer) operations, a multiply-add as two.
        weight_bytes: Bytes of all weights.
        dtype: What the operations compute in: `"float32"`, `"float16"` or `"int8"`.

    Returns:
        Joules.

    Raises:
        ValueError: For a dtype without a figure.

    Source:
        Horowitz, ISSCC 2014, doi:10.1109/ISSCC.2014.6757323; Kim et al., arXiv:2302.14017,
        figure 15; Han et al., arXiv:1506.02626, table 1.

    Example:
        >>> energy(flops=2e9, weight_bytes=4e6)
        0.00524
    """
    if dtype not in ARITHMETIC:
        raise ValueError(
            f"There is no energy figure for operations in {dtype}, only in {', '.join(ARITHMETIC)}."
        )
    one = ARITHMETIC[dtype]
    return flops / 2 * (one.multiply + one.add) + weight_bytes * DRAM_READ
