"""What a constructor was told: for the repr, and for the word that was meant."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

from equipoise.words import brief

_SUBJECTS = ("self", "losses", "balancer", "params")
_SYNONYMS = (
    ("priorities", "ranks", "weights", "preference", "shares"),  # how much each loss counts
    ("lr", "learning_rate"),
    ("every", "interval", "frequency", "update_every"),
)
"""Words of other libraries, and of other methods, for one thing."""

ConstructorT = TypeVar("ConstructorT", bound=Callable[..., None])


def remembers(constructor: ConstructorT) -> ConstructorT:
    """Keeps, as text, the options that a constructor got and that are not their defaults.

    As text, because a module or a tensor that was passed must not live on through its name in a
    repr. A keyword that no constructor takes is answered with the nearest that one does.

    Args:
        constructor: An ``__init__``.

    Returns:
        The same, with the options in ``_told``; the outermost of several has the last word.
    """
    signature, understood = inspect.signature(constructor), understands(constructor)

    @wraps(constructor)
    def told(self: Any, *args: Any, **options: Any) -> None:  # noqa: ANN401
        understood(self, *args, **options)
        given = signature.bind(self, *args, **options)
        self.__dict__["_told"] = dict(_said(signature, given, type(self)))

    return told  # type: ignore[return-value]


def understands(constructor: ConstructorT) -> ConstructorT:
    """Answers a keyword that no constructor takes with the nearest that one does.

    A number that came as text, as configuration files have it, is refused by its name.

    Args:
        constructor: An ``__init__``.
    """
    positions = list(inspect.signature(constructor).parameters)[1:]

    @wraps(constructor)
    def told(self: Any, *args: Any, **options: Any) -> None:  # noqa: ANN401
        _refuse_text(type(self), {**dict(zip(positions, args, strict=False)), **options})
        try:
            constructor(self, *args, **options)
        except TypeError as error:
            _propose(type(self), error)
            raise

    return told  # type: ignore[return-value]


def shown_options(instance: object) -> Iterator[str]:
    """Each option that was given and is not its default, as ``name=value``.

    Args:
        instance: Was made by a constructor that `remembers`. A word or number that can be changed
            by its name is shown as it is now.
    """
    told: Mapping[str, str] = getattr(instance, "_told", {})
    for name, text in told.items():
        now = vars(instance).get(name)
        yield f"{name}={now!r}" if isinstance(now, bool | int | float | str) else f"{name}={text}"


class UnknownOptionError(TypeError):
    """A keyword that no constructor takes.

    Args:
        kind: The class that was built.
        option: The keyword.
        known: Those that there are.
    """

    def __init__(self, kind: type, option: str, known: Sequence[str]) -> None:
        alike = [word for words in _SYNONYMS if option in words for word in words if word in known]
        near = alike or difflib.get_close_matches(option, known, n=1, cutoff=0.5)
        meant = f" Did you mean `{near[0]}`?" if near else ""
        takes = ", ".join(known)
        super().__init__(f"{kind.__name__} has no option `{option}`.{meant} It takes {takes}.")
        self.option, self.known = option, known


def _refuse_text(kind: type, given: Mapping[str, object]) -> None:
    """No option whose default is a number takes a word."""
    words = {name: value for name, value in given.items() if isinstance(value, str)}
    defaults = _defaults(kind) if words else {}
    for name, word in words.items():
        default = defaults.get(name)
        if isinstance(default, int | float) and not isinstance(default, bool):
            msg = (
                f"`{name}` is {word!r}, which is text; give a number. (YAML reads 1e-3 as text: "
                "write 1.0e-3.)"
            )
            raise TypeError(msg)


def _propose(kind: type, error: TypeError) -> None:
    """Raises Python's error about a keyword that a class does not take with the nearest it does.

    A method that hands keywords on to another, as `CRMOGM` does, takes its own and the other's.
    """
    known = [option for option in _keywords(kind) if option not in _SUBJECTS]
    if isinstance(error, UnknownOptionError):
        known = list(dict.fromkeys([*known, *error.known]))
        raise UnknownOptionError(kind, error.option, known) from None
    unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unexpected and unexpected[1] not in known:
        raise UnknownOptionError(kind, unexpected[1], known) from None


def _said(
    signature: inspect.Signature, given: inspect.BoundArguments, kind: type
) -> Iterator[tuple[str, str]]:
    defaults = _defaults(kind)
    for name, value in given.arguments.items():
        rest = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        for option, chosen in value.items() if rest else [(name, value)]:
            if option not in _SUBJECTS and not _is(chosen, defaults.get(option, ...)):
                yield option, brief(chosen)


def _is(value: object, default: object) -> bool:
    plain = isinstance(value, bool | int | float | str | tuple | type(None))
    return value is default or (plain and type(value) is type(default) and value == default)


def _constructors(kind: type) -> Iterator[inspect.Signature]:
    """Those that a keyword can reach: each that ends in ``**options`` hands them on."""
    for base in kind.__mro__:
        constructor = vars(base).get("__init__")
        if inspect.isfunction(constructor):
            signature = inspect.signature(constructor)
            yield signature
            if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
                return


def _keywords(kind: type) -> Iterator[str]:
    for signature in _constructors(kind):
        for name, parameter in signature.parameters.items():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                yield name


def _defaults(kind: type) -> dict[str, object]:
    found: dict[str, object] = {}
    for signature in _constructors(kind):
        for name, parameter in signature.parameters.items():
            found.setdefault(name, parameter.default)
    return found
