"""The options of a method, read from its constructor: registry, commands and documents ask here."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType, UnionType
from typing import ForwardRef, Literal, Union, get_args, get_origin

SUBJECTS = frozenset({"balancer", "losses", "params"})
"""What a method works on: arguments of every constructor, and no options."""

_SCALARS = frozenset({bool, int, float, str})


@dataclass(frozen=True)
class OptionSpec:
    """One option of a method.

    Args:
        name: The keyword.
        default: Its default; ``inspect.Parameter.empty`` where a value is required, ``...`` where
            nothing but a ``TypedDict`` names the option, which cannot state one.
        annotation: The type as its author wrote it.
        choices: The values that the type spells out, where it does.
        writable: Whether a value can be written as text: words, numbers, one number per loss. A
            module, a process group or a callable comes from code only.
        description: The first sentence that the documentation says about it.
        stated_by: The class whose constructor, or whose options, name it.
        members: The members of its type, those of unions one by one.
    """

    name: str
    default: object
    annotation: str
    choices: tuple[object, ...]
    writable: bool
    description: str
    stated_by: type
    members: tuple[object, ...] = ()

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is inspect.Parameter.empty

    def admits(self, value: object) -> bool:
        """Whether a value that was written as text is of its type.

        Args:
            value: A word, a number, a list of numbers, or ``None``.
        """
        return any(_is_of(value, member) for member in self.members)


def options_of(kind: type) -> dict[str, OptionSpec]:
    """What the constructor of a method takes by keyword, inherited options included.

    A constructor that ends in ``**options`` hands them to its base, so its bases' options are its
    own, down to the first constructor that takes no ``**``. Where a base names its options in a
    ``TypedDict`` (``**options: Unpack[BalancerOptions]``), those count as well.

    Args:
        kind: The class of a balancer or of an optimizer for several losses.

    Returns:
        The options by name, those of the class itself first.

    Example:
        >>> from equipoise import GradNorm
        >>> alpha = options_of(GradNorm)["alpha"]
        >>> alpha.default, alpha.annotation, alpha.writable
        (1.5, 'float', True)
        >>> options_of(GradNorm)["heads"].stated_by.__name__
        'Aggregation'
    """
    found: dict[str, OptionSpec] = {}
    for base, parameter in _keywords(kind):
        if parameter.name not in SUBJECTS and parameter.name not in found:
            found[parameter.name] = _specify(kind, base, parameter)
    return found


def _specify(kind: type, base: type, parameter: inspect.Parameter) -> OptionSpec:
    hint = parameter.annotation
    names = _names_of(getattr(hint, "__forward_module__", None) or base.__module__)
    members = list(_members(hint, names))
    literals = [get_args(member) for member in members if get_origin(member) is Literal]
    return OptionSpec(
        name=parameter.name,
        default=parameter.default,
        annotation=hint.__forward_arg__ if isinstance(hint, ForwardRef) else str(hint),
        choices=tuple(choice for literal in literals for choice in literal),
        writable=any(_is_writable(member, names) for member in members),
        description=_description((*kind.__mro__, *base.__mro__), parameter.name),
        stated_by=base,
        members=tuple(members),
    )


def _is_of(value: object, member: object) -> bool:
    if get_origin(member) is Literal:
        return value in get_args(member)
    if get_origin(member) in (tuple, list, Sequence):  # one number may stand for one loss
        return isinstance(value, list | int | float) and not isinstance(value, bool)
    if isinstance(value, bool):
        return member is bool
    if isinstance(value, str):
        return member is str
    if member in (int, float):
        return isinstance(value, int) or (member is float and isinstance(value, float))
    return value is None and member in (None, type(None))


def _keywords(kind: type) -> Iterator[tuple[type, inspect.Parameter]]:
    """Each keyword with the class that names it, nearest class first."""
    named: list[tuple[type, inspect.Parameter]] = []
    for base in kind.__mro__:
        constructor = vars(base).get("__init__")
        if not inspect.isfunction(constructor):
            continue
        _self, *parameters = inspect.signature(constructor).parameters.values()
        rest = [known for known in parameters if known.kind is known.VAR_KEYWORD]
        yield from ((base, known) for known in parameters if known.kind in _BY_KEYWORD)
        if not rest:
            break
        named += _named_by_type(base, str(rest[0].annotation))
    # Last, because a signature also knows the default, which a TypedDict cannot hold.
    yield from named


_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _named_by_type(base: type, annotation: str) -> Iterator[tuple[type, inspect.Parameter]]:
    """The keys of ``X``, where ``**options`` is annotated ``Unpack[X]``."""
    unpacked = re.fullmatch(r"(?:\w+\.)*Unpack\[(.+)\]", annotation)
    options = _evaluate(unpacked[1], _names_of(base.__module__)) if unpacked else None
    stated_by, defaults = _spelled_out(options) if isinstance(options, type) else (None, {})
    for name, hint in getattr(options, "__annotations__", {}).items():
        default, keyword = defaults.get(name, ...), inspect.Parameter.KEYWORD_ONLY
        yield stated_by or base, inspect.Parameter(name, keyword, default=default, annotation=hint)


def _spelled_out(options: type) -> tuple[type | None, dict[str, object]]:
    """The class beside a TypedDict whose constructor spells its options out, with defaults."""
    wanted = options.__annotations__.keys()
    for beside in vars(sys.modules[options.__module__]).values():
        constructor = vars(beside).get("__init__") if isinstance(beside, type) else None
        if inspect.isfunction(constructor):
            parameters = inspect.signature(constructor).parameters
            if wanted <= parameters.keys():
                return beside, {name: parameters[name].default for name in wanted}
    return None, {}


@cache
def _names_of(module_name: str) -> Mapping[str, object]:
    """What the annotations of a module can name, imports for type checkers alone included."""
    module = sys.modules[module_name]
    names = dict(vars(module))
    for statement in ast.walk(ast.parse(_source(module))):
        if isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            for imported in statement.names:
                name = imported.asname or imported.name
                if name not in names:
                    names[name] = _imported(statement.module, imported.name)
    return names


def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):  # a class made in an interactive session
        return ""


def _imported(module: str, name: str) -> object:
    try:
        return getattr(import_module(module), name, None)
    except ImportError:  # an optional package, which no value can come from either
        return None


def _members(annotation: object, names: Mapping[str, object]) -> Iterator[object]:
    """The members of a union, of the aliases in it too: types, ``Literal[...]``, ``None``."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        # Taken apart as text: an alias that is itself a string has no `|` operator at run time.
        for part in _split(annotation):
            yield from _members(_evaluate(part, names), names)
    elif get_origin(annotation) in (Union, UnionType):
        for argument in get_args(annotation):
            yield from _members(argument, names)
    else:
        yield annotation


def _split(annotation: str) -> Iterator[str]:
    """``"A | B[C | D]"`` into ``"A"`` and ``"B[C | D]"``."""
    open_: list[ast.expr] = [ast.parse(annotation, mode="eval").body]
    while open_:
        node = open_.pop()
        if isinstance(node, ast.BinOp):
            open_ += [node.right, node.left]
        else:
            yield ast.unparse(node)


def _is_writable(member: object, names: Mapping[str, object]) -> bool:
    """Whether a type has values that can be written as text."""
    origin, arguments = get_origin(member), get_args(member)
    if origin in (tuple, list, Sequence):
        return all(_is_any_writable(argument, names) for argument in arguments)
    return origin is Literal or member in _SCALARS


def _is_any_writable(annotation: object, names: Mapping[str, object]) -> bool:
    return any(_is_writable(member, names) for member in _members(annotation, names))


def _evaluate(text: str, names: Mapping[str, object]) -> object:
    try:
        return eval(text, dict(names))  # noqa: S307 (the annotation of an imported class)
    except (AttributeError, NameError, TypeError):
        return None


def _description(kinds: Iterable[type], option: str) -> str:
    """The first sentence about an option, from the nearest class that says more than "see"."""
    for base in kinds:
        text = _arguments(base).get(option, "")
        if text and not text.startswith("See `"):
            return _plain(re.split(r"(?<=[.;:])\s", text, maxsplit=1)[0].rstrip(".;:")) + "."
    return ""


@cache
def _arguments(kind: type) -> dict[str, str]:
    """The section ``Args`` of a class's documentation, each entry on one line."""
    lines = inspect.cleandoc(vars(kind).get("__doc__") or "").splitlines()
    section = lines[lines.index("Args:") + 1 :] if "Args:" in lines else []
    found: dict[str, str] = {}
    current: list[str] = []
    for line in section:
        if line and not line.startswith(" "):
            break
        start = re.match(r" {4}(\w+(?:, \w+)*): (.*)", line)
        if start:
            current = start[1].split(", ")
            found.update(dict.fromkeys(current, start[2]))
        else:
            found.update({name: f"{found[name]} {line.strip()}" for name in current})
    return found


def _plain(text: str) -> str:
    """A sentence without the marks of reStructuredText."""
    text = re.sub(r":\w+:`([^`]*)`", r"\1", text)
    return text.replace("`", "").replace("\\", "")
