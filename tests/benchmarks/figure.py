"""Figures, and the table of what several rounds measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number; `name` says of what, and is the same in each round."""

    name: str
    unit: str
    value: float


def table(figures: Sequence[Figure]) -> str:
    """Set the figures of all rounds as a table, a row for each name in order of appearance."""
    values: dict[tuple[str, str], list[float]] = {}
    for figure in figures:
        values.setdefault((figure.name, figure.unit), []).append(figure.value)
    heads = ("Figure", "Unit", "Minimum", "Median", "Maximum")
    rows = [
        (name, unit, *(_number(pick) for pick in (min(measured), median(measured), max(measured))))
        for (name, unit), measured in values.items()
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    rule = tuple("-" * width for width in widths)
    return "\n".join(_line(row, widths) for row in (heads, rule, *rows))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, numbers to the right."""
    words = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    numbers = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return "  ".join(words + numbers)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
