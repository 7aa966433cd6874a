"""Draws README's picture from the demo's results: `picture.py runs/demo/digits docs/images/digits`.

Two files, for light and for dark pages. Every curve has a colour and a dash of its own, and its
name where it ends; each colour stands out from its page by 3:1 or more.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import fmean

from equipoise.benchmarks.compare.results import Results
from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.demo.findings import brief

DASHES = ("", "8 3", "2 2", "10 3 2 3", "5 2", "12 4", "3 4", "7 2 2 2 2 2")
LEFT, RIGHT, TOP, BOTTOM = 56.0, 560.0, 20.0, 330.0
WIDTH, HEIGHT = 870, 384
LINE = 18.0
"""The least distance of two names, in pixels."""


@dataclass(frozen=True)
class Look:
    """How a picture looks on one kind of page: ``colours`` are those of the curves, in order."""

    text: str
    grid: str
    colours: tuple[str, ...]


LOOKS = {
    "light": Look(
        "#1f2328",
        "#d1d9e0",
        (
            *("#0550ae", "#24292f", "#b35900", "#cf222e"),
            *("#8250df", "#1a7f37", "#bf3989", "#57606a"),
        ),
    ),
    "dark": Look(
        "#f0f6fc",
        "#3d444d",
        (
            *("#58a6ff", "#f0f6fc", "#f0883e", "#ff7b72"),
            *("#d2a8ff", "#56d364", "#f778ba", "#9198a1"),
        ),
    ),
}


@dataclass(frozen=True)
class Curve:
    """The mean of a method's metric over its seeds, at each step where it was taken."""

    name: str
    steps: Sequence[int]
    means: Sequence[float]


def curves(folder: Path) -> list[Curve]:
    """The curves of a comparison, the best end first.

    Args:
        folder: Where ``results.jsonl`` lies.

    Raises:
        SystemExit: If no run is finished there, or there are more methods than dashes.
    """
    runs = defaultdict(list)
    for run in Results(folder).read():
        if run.failure is None:
            runs[brief(run.balancer, run.problem.labels)].append(run)
    if not 0 < len(runs) <= len(DASHES):
        raise SystemExit(f"{folder} has finished runs of {len(runs)} methods, not 1 to 8.")
    found = [Curve(name, of[0].metric_steps, _means(of)) for name, of in runs.items()]
    return sorted(found, key=lambda curve: -curve.means[-1])


def _means(runs: Sequence[Run]) -> list[float]:
    return [fmean(taken) for taken in zip(*(run.metric_curve for run in runs), strict=True)]


def picture(shown: Sequence[Curve], look: Look) -> str:
    """An SVG.

    Args:
        shown: The curves, the best end first.
        look: Of the page that it is for.
    """
    last = max(step for curve in shown for step in curve.steps)
    places = spread([y_of(curve.means[-1]) for curve in shown])
    parts = [*_axes(last, look)]
    for curve, colour, dash, place in zip(shown, look.colours, DASHES, places, strict=False):
        points = " ".join(
            f"{x_of(step, last):.1f},{y_of(mean):.1f}"
            for step, mean in zip(curve.steps, curve.means, strict=True)
        )
        stroke = f'stroke="{colour}" stroke-dasharray="{dash}"'
        ends = f"M{RIGHT + 4} {y_of(curve.means[-1]):.1f} L{RIGHT + 16} {place:.1f} h24"
        parts += [
            f'<polyline points="{points}" fill="none" stroke-width="2.5" {stroke}/>',
            f'<path d="{ends}" fill="none" stroke-width="2" {stroke}/>',
            _text(RIGHT + 46, place + 4, f"{curve.name} {curve.means[-1]:.2f}", look.text),
        ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
    font = 'font-family="system-ui, -apple-system, Segoe UI, sans-serif" font-size="14">'
    title = "<title>Test accuracy during training, mean over the seeds</title>"
    return "\n".join([f"{head} {font}", title, *parts, "</svg>", ""])


def x_of(step: float, last: int) -> float:
    """Where a step lies, in pixels."""
    return LEFT + (RIGHT - LEFT) * step / last


def y_of(value: float) -> float:
    """Where an accuracy lies, in pixels from the top."""
    return BOTTOM - (BOTTOM - TOP) * value


def spread(wanted: Sequence[float]) -> list[float]:
    """Places for names, in order, none nearer to another than a line of text.

    Args:
        wanted: Where each would best stand, from the top down.
    """
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + LINE) if places else place)
    return places


def _axes(last: int, look: Look) -> Iterable[str]:
    for tenth in range(0, 11, 2):
        y = y_of(tenth / 10)
        yield f'<path d="M{LEFT} {y:.1f} H{RIGHT}" stroke="{look.grid}"/>'
        yield _text(LEFT - 8, y + 4, f"{tenth / 10:.1f}", look.text, anchor="end")
    for step in range(0, last + 1, max(1, last // 50) * 10):
        yield _text(x_of(step, last), BOTTOM + 20, f"{step}", look.text, anchor="middle")
    middle = (LEFT + RIGHT) / 2
    yield _text(middle, BOTTOM + 42, "training step", look.text, anchor="middle")
    turned = f'transform="translate(14 {(TOP + BOTTOM) / 2:.0f}) rotate(-90)" text-anchor="middle"'
    yield f'<text {turned} fill="{look.text}">test accuracy</text>'


def _text(x: float, y: float, words: str, colour: str, *, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text {place} fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'


def write_pictures(shown: Sequence[Curve], stem: Path) -> Mapping[str, Path]:
    """Writes one picture for each kind of page.

    Args:
        shown: The curves.
        stem: The path without what tells them apart: ``digits`` gives ``digits-light.svg``.
    """
    written = {name: stem.with_name(f"{stem.name}-{name}.svg") for name in LOOKS}
    for name, path in written.items():
        path.write_text(picture(shown, LOOKS[name]), encoding="utf-8")
    return written


def main() -> None:
    """Writes both pictures."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: picture.py RESULTS_FOLDER STEM")
    folder, stem = map(Path, sys.argv[1:])
    write_pictures(curves(folder), stem)


if __name__ == "__main__":
    main()
