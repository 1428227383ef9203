"""`make figures`: draw CPU per delivery against sessions, for all servers, from what `make bench-peers` has written.

python -m tests.benchmarks.chart FROM.json TO.svg
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.benchmarks.load import LoadFailed
from tests.benchmarks.sessions import DELIVERY
from tests.benchmarks.targets import NOTIFIER

WIDTH, HEIGHT = 960, 430
TOP, BOTTOM, PLOT_WIDTH = 76, 344, 300
LEFTS: Final = {1: 58, 4: 530}
"""Where the panel begins, by the number of messages in flight."""
LINE_HEIGHT: Final = 15
# Apart for whoever sees colours badly too (near those of Okabe and Ito), and strong enough on white and on black.
COLOURS: Final = {NOTIFIER: "#d55e00", "nchan": "#2a85d0", "NATS": "#009e73", "Mosquitto": "#b07d2b"}
STYLE: Final = """\
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 } .small { font-size: 11px; fill: #59636e }
.ground { fill: #ffffff } .grid { stroke: #d1d9e0 } .axis { stroke: #818b98 }
.line { fill: none; stroke-width: 2 } .name { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .small { fill: #9198a1 }
  .ground { fill: #0d1117 } .grid { stroke: #30363d } .axis { stroke: #656c76 }
}"""

Lines = Mapping[str, Sequence[tuple[int, float]]]
"""By server: numbers of sessions, and microseconds."""


def main(source: Path, target: Path) -> None:
    """Read the result, and write the picture."""
    result = json.loads(source.read_text())
    panels = {in_flight: _lines(result["rounds"], in_flight) for in_flight in LEFTS}
    missing = [in_flight for in_flight, lines in panels.items() if not lines]
    if missing:
        raise LoadFailed(f"{source} has nothing measured with {missing} in flight")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(_picture(panels, result)) + "\n")


def _lines(rounds: Sequence[Sequence[Mapping[str, Any]]], in_flight: int) -> Lines:
    """The medians of the rounds."""
    values: dict[str, dict[int, list[float]]] = {}
    for figure in (figure for measured in rounds for figure in measured):
        name = re.fullmatch(rf"Broadcast to ([\d,]+), {in_flight} in flight", figure["name"])
        if name and figure["unit"] == DELIVERY:
            count = int(name[1].replace(",", ""))
            values.setdefault(figure["server"], {}).setdefault(count, []).append(figure["value"])
    return {
        server: [(count, median(measured)) for count, measured in sorted(values[server].items())]
        for server in COLOURS
        if server in values
    }


def _picture(panels: Mapping[int, Lines], result: Mapping[str, Any]) -> Iterator[str]:
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    yield f"<title>CPU per delivery against open sessions: {', '.join(panels[1])}</title>\n<style>\n{STYLE}\n</style>"
    yield f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>'
    yield '<text class="title" x="20" y="28">CPU per delivery of a broadcast (less is better)</text>'
    for in_flight, lines in panels.items():
        yield from _panel(LEFTS[in_flight], in_flight, lines)
    rounds = len(result["rounds"])
    for index, note in enumerate(
        (
            f"Medians of {rounds} round{'s' * (rounds > 1)}, {result['date']}, printed by {result['command']}",
            result["machine"],
        )
    ):
        yield f'<text class="small" x="20" y="{HEIGHT - 22 + index * LINE_HEIGHT}">{escape(note)}</text>'
    yield "</svg>"


def _panel(left: int, in_flight: int, lines: Lines) -> Iterator[str]:
    counts = sorted({count for points in lines.values() for count, _ in points})
    step = _step(max(value for points in lines.values() for _, value in points))
    highest = step * ceil(max(value for points in lines.values() for _, value in points) / step)

    def place(count: float, value: float) -> tuple[float, float]:
        x = left + PLOT_WIDTH * count / counts[-1]
        return round(x, 1), round(BOTTOM - (BOTTOM - TOP) * value / highest, 1)

    noun = "notification" if in_flight == 1 else "notifications"
    yield f'<text x="{left - 38}" y="{TOP - 16}">µs per delivery, {in_flight} {noun} in flight</text>'
    for value in range(0, highest + 1, step):
        y = place(0, value)[1]
        yield f'<line class="{"grid" if value else "axis"}" x1="{left}" x2="{left + PLOT_WIDTH}" y1="{y}" y2="{y}"/>'
        yield f'<text class="small" x="{left - 8}" y="{y + 4}" text-anchor="end">{value}</text>'
    for count in counts:
        x = place(count, 0)[0]
        yield f'<line class="axis" x1="{x}" x2="{x}" y1="{BOTTOM}" y2="{BOTTOM + 4}"/>'
        yield f'<text class="small" x="{x}" y="{BOTTOM + 18}" text-anchor="middle">{count:,}</text>'
    middle = left + PLOT_WIDTH / 2
    yield f'<text class="small" x="{middle}" y="{BOTTOM + 36}" text-anchor="middle">open sessions</text>'
    ends = _spread({server: place(*points[-1])[1] for server, points in lines.items()})
    for server, points in lines.items():
        yield from _line(server, [place(*point) for point in points], points[-1][1], ends[server])


def _line(server: str, places: Sequence[tuple[float, float]], last: float, label_y: float) -> Iterator[str]:
    """A line with its points, its name and its last value behind its end."""
    colour = COLOURS[server]
    path = " ".join(f"{x},{y}" for x, y in places)
    yield f'<polyline class="line" stroke="{colour}" points="{path}"/>'
    for x, y in places:
        yield f'<circle fill="{colour}" cx="{x}" cy="{y}" r="3.5"/>'
    x, y = places[-1]
    yield f'<line stroke="{colour}" x1="{x + 5}" y1="{y}" x2="{x + 14}" y2="{label_y}"/>'
    name = f'<tspan class="name" style="fill: {colour}">{server}</tspan> {last:.1f}'
    yield f'<text x="{x + 18}" y="{label_y + 4}">{name}</text>'


def _spread(heights: Mapping[str, float]) -> dict[str, float]:
    """Move labels apart that would cover each other: from the lowest upwards."""
    placed: dict[str, float] = {}
    free = float(BOTTOM)
    for name in sorted(heights, key=lambda one: -heights[one]):
        placed[name] = min(heights[name], free)
        free = placed[name] - LINE_HEIGHT
    return placed


def _step(highest: float) -> int:
    """A round distance for about five lines."""
    rough = max(1.0, highest / 5)
    power = 10 ** floor(log10(rough))
    return int(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except (LoadFailed, OSError) as error:
        sys.exit(f"{error}; make bench-peers measures anew")
