"""The pages of the reference: everything public that is no method, by the room that it is from."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules

import equipoise as eq
from equipoise import integrations, pointwise, solvers
from equipoise.registry import balancer_class

SECTIONS = {
    "balancers": ("Balancers", ("balancer", "weighting", "aggregation", "registry")),
    "optimizers": ("Optimizers for several losses", ("optim",)),
    "wrappers": ("Wrappers and schedules", ("wrappers", "schedules")),
    "points": ("Weights of single points", ("pointwise",)),
    "gradients": ("Gradients", ("gradients", "autograd")),
    "monitor": ("Look and record", ("monitor", "record")),
}
"""A page's name, its title, and the rooms that it is about."""

BASES = ("equipoise.optim.base.MultiTermOptimizer",)
"""What no user imports, and whose methods every user calls."""

INTEGRATIONS = "integrations"
SOLVERS = "solvers"


def reference_pages() -> dict[str, str]:
    """The reference, page by page.

    Returns:
        Markdown by the name of its file.

    Raises:
        ValueError: If a public name is documented nowhere, or comes from a room without a page.
    """
    undocumented = sorted(undocumented_names())
    if undocumented:
        raise ValueError(f"These public names have no docstring: {', '.join(undocumented)}.")
    pages = {f"{name}.md": _page(title, names) for name, title, names in _sections()}
    pages[f"{INTEGRATIONS}.md"] = _integrations()
    pages[f"{SOLVERS}.md"] = _solvers()
    pages["index.md"] = _index(pages)
    return pages


def undocumented_names() -> Iterator[str]:
    """Public names, and public methods of public classes, that say nothing about themselves."""
    for name, thing in public_things().items():
        if not thing.__doc__:
            yield name
        elif isinstance(thing, type):
            own = [key for key in vars(thing) if not key.startswith("_")]
            members = {key: inspect.getattr_static(thing, key) for key in own}
            yield from (
                f"{name}.{key}"
                for key, member in members.items()
                if isinstance(member, property | classmethod | staticmethod)
                or inspect.isfunction(member)
                if not inspect.getdoc(getattr(thing, key))
            )


def public_things() -> dict[str, object]:
    """What a user can import, by the name to write after ``import equipoise``."""
    found = {f"equipoise.{name}": getattr(eq, name) for name in eq.__all__}
    found = {name: thing for name, thing in found.items() if not inspect.ismodule(thing)}
    for name in pointwise.__all__:
        if f"equipoise.{name}" not in found:
            found[f"equipoise.pointwise.{name}"] = getattr(pointwise, name)
    return found


def methods() -> dict[str, type]:
    """The methods of the registry, balancers and optimizers, by the name of their class."""
    kinds = [balancer_class(name) for name in eq.list_balancers()]
    return {kind.__name__: kind for kind in (*kinds, *(getattr(eq, n) for n in eq.optim.__all__))}


def _sections() -> Iterator[tuple[str, str, list[str]]]:
    """Each page with its public names, which are all there are besides methods."""
    by_room: Mapping[str, list[str]] = defaultdict(list)
    for name, thing in public_things().items():
        if thing not in methods().values():
            by_room[thing.__module__.split(".")[1]].append(name)
    known = {room for _, rooms in SECTIONS.values() for room in rooms}
    homeless = [name for room, names in by_room.items() if room not in known for name in names]
    if homeless:
        raise ValueError(f"No page of the reference is about {', '.join(homeless)}.")
    for base in BASES:
        by_room[base.split(".")[1]].append(base)
    for page, (title, rooms) in SECTIONS.items():
        yield page, title, sorted(name for room in rooms for name in by_room.get(room, ()))


def _page(title: str, names: list[str]) -> str:
    return "\n".join([f"# {title}", "", *(_documented(name) for name in names)])


def _documented(name: str) -> str:
    """One name with its documentation, as autodoc finds it."""
    return "\n".join([f"## {name.rpartition('.')[2]}", "", directive(name), ""])


def directive(name: str) -> str:
    """What has autodoc document a name: of a class, also what it has from a base without a page.

    Args:
        name: The dotted name.
    """
    thing = _named(name)
    lines = [f".. auto{'class' if isinstance(thing, type) else 'function'}:: {name}"]
    if isinstance(thing, type):
        lines += ["   :members:", "   :show-inheritance:"]
        documented = {*public_things().values(), *map(_named, BASES)}
        # All that are left out have to be named: of each, autodoc leaves out its own members alone.
        first = next(
            place
            for place, base in enumerate(thing.__mro__)
            if place and (base in documented or not base.__module__.startswith("equipoise"))
        )
        left_out = ", ".join(base.__name__ for base in thing.__mro__[first:])
        lines.append(f"   :inherited-members: {left_out}")
    return "\n".join(["```{eval-rst}", *lines, "```"])


def _named(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


def _integrations() -> str:
    """One part for each framework; what a framework brings itself is not repeated."""
    parts = ["# Frameworks", ""]
    for found in iter_modules(integrations.__path__, f"{integrations.__name__}."):
        module = import_module(found.name)
        if module.__doc__ and not found.name.endswith(".balanced_loss"):
            parts += [f"## {found.name}", "", "```{eval-rst}", f".. automodule:: {found.name}"]
            parts += ["   :members:", "   :show-inheritance:", "```", ""]
    return "\n".join(parts)


def _solvers() -> str:
    functions = [name for name in solvers.__all__ if inspect.isfunction(getattr(solvers, name))]
    lines = ["# Solvers", "", "```{eval-rst}", f".. automodule:: {solvers.__name__}", ""]
    lines += [f".. autofunction:: {solvers.__name__}.{name}\n" for name in functions]
    return "\n".join([*lines, "```", ""])


def _index(pages: Mapping[str, str]) -> str:
    names = [*SECTIONS, INTEGRATIONS, SOLVERS]
    rows = [f"- [{pages[f'{name}.md'].splitlines()[0][2:]}]({name}.md)" for name in names]
    return "\n".join(
        [
            "# API reference",
            "",
            (
                "Everything public, from the docstrings. Methods have [pages of their own]"
                "(../methods/index.md)."
            ),
            "",
            *rows,
            "",
            "```{toctree}",
            ":hidden:",
            "",
            *names,
            "```",
            "",
        ]
    )
