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
    return rows([heads, *((name, unit, *spread(measured)) for (name, unit), measured in values.items())], words=2)


def spread(values: Sequence[float]) -> tuple[str, str, str]:
    """Minimum, median and maximum, as a table shows them."""
    return number(min(values)), number(median(values)), number(max(values))


def rows(cells: Sequence[Sequence[str]], *, words: int) -> str:
    """Set rows under their heads, which come first: so many columns of words to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    heads, *body = cells
    return "\n".join(_line(row, widths, words) for row in (heads, tuple("-" * width for width in widths), *body))


def number(value: float) -> str:
    """A number with as many digits as say something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def _line(cells: Sequence[str], widths: Sequence[int], words: int) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:words], widths[:words], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(cells[words:], widths[words:], strict=True)]
    return "  ".join(left + right)
