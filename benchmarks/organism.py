"""Does the organism that ships obey what is planted in it, adversaries included?

Injects and writes every facet under several contexts and compares the realised effects on the ten
values with the planted ones, off the diagonal. Also: diagonals, leaky facets, topics and value-free
attributes (which must move nothing), linearity, damage.
"""

from __future__ import annotations

NAME = "organism"
REACH = 0.98


def main() -> dict:
    """Measures the shipped weights; the value is the worse of the two correlations."""
    from workbench import organism
    from workbench.organism.check import check, show

    report = check(organism.folder())
    show(report)
    value = min(report.injected, report.written)
    return {
        "name": NAME,
        "value": round(value, 4),
        "reach": REACH,
        "holds": bool(report.holds),
        **{name: round(figure, 4) for name, figure in report.figures().items()},
    }
