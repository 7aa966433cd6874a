"""A page for each method: the registry, docstring, options, price, rules, and what was found."""

from __future__ import annotations

from collections.abc import Iterator

from docs.extension.evidence_section import evidence_section
from docs.extension.price_table import PRICES, declared, methods_in_order, methods_table
from docs.extension.reference_pages import directive

from equipoise.benchmarks.methods import method_class, method_options, summary
from equipoise.monitor.rules import RULES
from equipoise.options import OptionSpec
from equipoise.registry import capabilities, list_balancers

LOOKS_AT = {
    "losses": "the values of the losses",
    "norms": "the norm of each loss's gradient",
    "gramian": "the inner products of the gradients",
    "gradients": "the whole gradient of each loss",
}
GIVES = {
    "weights": "a weight for each loss",
    "gradient": "a combined gradient, which is no weighting of the losses",
    "update": "the update itself: it takes the place of the optimizer",
}


def method_pages() -> dict[str, str]:
    """All pages, and their index.

    Returns:
        Markdown by the name of its file.
    """
    pages = {f"{method_class(name).__name__}.md": _page(name) for name in methods_in_order()}
    return {**pages, "index.md": _index()}


def _page(name: str) -> str:
    title = method_class(name).__name__
    parts = [
        f"# {title}",
        f"*{summary(name)}*",
        "\n".join(_facts(name)),
        *_advice(title),
        *evidence_section(name),
        "## Formula, source, and what differs",
        directive(f"equipoise.{title}"),
        "## What to call",
        _calls(name),
        "## Options",
        (
            "From the command line, `equipoise compare` takes those that can be written as text: "
            f"`{_written(name)}`."
        ),
        "\n".join(_options(name)),
    ]
    return "\n\n".join(parts) + "\n"


def _written(name: str) -> str:
    """A method with an option that it has, as a command takes it."""
    required = [
        f"{option.name}=1/0.01" for option in method_options(name).values() if option.required
    ]
    usual = "every=10" if name in list_balancers() else "lr=0.01"
    return ":".join([name, *(required or [usual])])


def _calls(name: str) -> str:
    if name in list_balancers():
        return (
            "`backward(losses)` in place of `sum(losses).backward()`; `weights`, `report()`, "
            "`frozen()`, `settled()` and the rest are those of "
            "[every balancer](../reference/balancers.md#balancer)."
        )
    return (
        "`backward(losses)` in place of `sum(losses).backward()`, then `step()`; `accumulate()`, "
        "`weights`, `report()` and the rest are those of "
        "[every optimizer for several losses](../reference/optimizers.md#multitermoptimizer)."
    )


def _facts(name: str) -> Iterator[str]:
    looks_at, gives, random = declared(name)
    yield f"- **Looks at** {LOOKS_AT[looks_at]}{_where(name)}."
    yield f"- **Gives** {GIVES[gives]}."
    if random == "yes":
        yield "- **Draws random numbers**, from a generator that is saved with its state."
    yield f"- **Costs** {_price(name)}."


def _where(name: str) -> str:
    watches = capabilities(name).watches if name in list_balancers() else "shared"
    places = {
        "shared": ", with respect to all parameters that losses share",
        "last_shared": ", with respect to the last layer that losses share",
        "representation": ", at the representation where the paths of the losses part",
    }
    return places.get(watches or "", "")


def _price(name: str) -> str:
    """What was measured, or that nothing was."""
    price = PRICES["prices"].get(name)
    if price is None:
        return "what has not been measured yet: `equipoise bench`"
    passes = "1 backward pass" if price["passes"] == 1 else f"{price['passes']:g} backward passes"
    rare = price.get("time_every_10")
    also = f" ({rare:.2f} with `every=10`)" if rare else ""
    return (
        f"{passes} through the trunk with {PRICES['losses']} losses, {price['time']:.2f} times the "
        f"time of a step with the plain sum{also}, and {price['memory']:.1f} times the parameters "
        "in memory; [how that was measured](index.md)"
    )


def _advice(title: str) -> list[str]:
    """The situations that the rules recommend a method for."""
    found = [
        f"- **{rule.situation}**: {pick.why}" + (f", as `{pick.written}`" if pick.options else "")
        for rule in RULES
        for pick in rule.picks
        if pick.method == title
    ]
    if not found:
        return []
    return ["## When to take it", "\n".join(found), "[How to choose](../which.md)"]


def _options(name: str) -> Iterator[str]:
    yield "| option | default | takes | what it is |"
    yield "| --- | --- | --- | --- |"
    for option in method_options(name).values():
        cells = (f"`{option.name}`", _default(option), _takes(option), option.description)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(option: OptionSpec) -> str:
    if option.required:
        return "required"
    return "" if option.default is ... else f"`{option.default!r}`"


def _takes(option: OptionSpec) -> str:
    if option.choices:
        return ", ".join(f"`{choice!r}`" for choice in option.choices)
    return f"`{option.annotation}`"


def _index() -> str:
    names = "\n".join(method_class(name).__name__ for name in methods_in_order())
    return (
        "# Methods and their price\n\n"
        "Which one to take says [another page](../which.md); what makes a step expensive, "
        "[Concepts](../concepts.md).\n\n"
        f"{methods_table()}\n\n"
        f"```{{toctree}}\n:hidden:\n\n{names}\n```\n"
    )
