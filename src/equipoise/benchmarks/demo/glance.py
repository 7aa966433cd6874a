"""The tables of the demo's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from equipoise.benchmarks.compare.paired import difference
from equipoise.benchmarks.compare.statistics import Standing, mean_interval
from equipoise.benchmarks.demo.findings import REFERENCES, Finding
from equipoise.benchmarks.methods import PLAIN_SUM


def glance_table(found: Sequence[Finding]) -> str:
    """One line for each problem: its method beside what that must beat.

    Args:
        found: Of all parts that have a result.

    Returns:
        The rows of an HTML table, the head among them.
    """
    references = [name.removeprefix("the ") for name in REFERENCES.values()]
    return _table(["problem", "its method", *references], [_glance_row(each) for each in found])


def _glance_row(found: Finding) -> str:
    better = "higher" if found.rows[0].runs[0].problem.higher_is_better else "lower"
    judged = f'<span class="caption">{escape(found.metric)}, {better} is better</span>'
    link = f'<a href="#{found.part.name}">{escape(found.part.title)}</a>'
    known, own = found.references, found.by_label.get(found.part.method)
    method = "" if own is None else f"{own.title}\n{own.result}"
    results = [known[label].result if label in known else "not known" for label in REFERENCES]
    return _row(f"{link}<br>{judged}", [method, *results])


def result_table(found: Finding) -> str:
    """One line for each method of a part.

    Args:
        found: What came out.

    Returns:
        The rows of an HTML table, the head among them.
    """
    plain = found.by_label.get(PLAIN_SUM)
    tested = plain is not None and len(plain.runs) > 1
    others = [one.name for one in found.rows[0].runs[0].problem.metrics if one.name != found.metric]
    heads = ["method", found.metric, *(["less the plain sum"] if tested else []), *others]
    lines = []
    for row in found.rows:
        gap = [_gap(row, plain)] if tested and plain is not None else []
        lines.append(_row(escape(row.title), [row.result, *gap, *_ends(row, others).values()]))
    return _table(heads, lines)


def _gap(row: Standing, plain: Standing) -> str:
    return "" if row is plain else str(difference(row, plain))


def _ends(row: Standing, metrics: Sequence[str]) -> Mapping[str, str]:
    """The other metrics at the end, means over the seeds that did not fail."""
    runs = [run for run in row.runs if not run.failed]
    ends = {name: mean_interval([run.metrics[name][-1] for run in runs]) for name in metrics}
    return {name: f"{end.mean:.3g}" if end.count else "" for name, end in ends.items()}


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    first, *rest = (escape(head) for head in heads)
    cells = "".join(f'<th scope="col">{head}</th>' for head in rest)
    head = f'<tr><th scope="col" class="name">{first}</th>{cells}</tr>'
    return f"<thead>{head}</thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>"


def _row(name: str, cells: Sequence[str]) -> str:
    first, *rest = (escape(cell).replace("\n", "<br>") for cell in cells)
    numbers = "".join(f"<td>{cell}</td>" for cell in rest)
    return f'<tr><th scope="row">{name}</th><td class="prose">{first}</td>{numbers}</tr>'
