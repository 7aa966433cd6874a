"""How errors and reprs put things: a value in brief, and the name that was meant."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

_FEW = 8
"""So many numbers of a tensor are shown."""


def brief(value: object) -> str:
    """A value in a few words: numbers as they are, of larger things what they are.

    Args:
        value: Of any class.

    Example:
        >>> import torch
        >>> brief([1.0, torch.ones(3, 4)]), brief(torch.nn.Linear(2, 2))
        ('[1.0, tensor(3, 4)]', 'Linear')
    """
    if isinstance(value, Tensor):
        return str(value.tolist()) if value.numel() <= _FEW else f"tensor{tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {brief(part)}" for key, part in value.items()) + "}"
    if isinstance(value, bool | int | float | str | type(None)):
        return repr(value)
    if isinstance(value, Sequence):
        inner = ", ".join(map(brief, value[:_FEW])) + (", ..." if len(value) > _FEW else "")
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    called = value if inspect.isclass(value) or inspect.isfunction(value) else type(value)
    return str(getattr(called, "__name__", called))


def unknown_name(argument: str, name: str, names: Sequence[str]) -> str:
    """What to say of the name of a loss that there is not.

    Args:
        argument: What holds it.
        name: As it was written.
        names: Those that there are.

    Example:
        >>> unknown_name("ranks", "bo", ("a", "box"))
        "`ranks` has the unknown name 'bo'; the known names are 'a', 'box'. Did you mean 'box'?"
    """
    known = ", ".join(map(repr, names))
    return (
        f"`{argument}` has the unknown name {name!r}; the known names are {known}."
        f"{did_you_mean(str(name), names)}"
    )


def did_you_mean(name: str, known: Iterable[str], *, most: int = 1) -> str:
    """The known names nearest to a misspelt one, asked behind a sentence; empty where none is near.

    Args:
        name: As it was written.
        known: What could have been meant.
        most: How many are asked for at most.

    Example:
        >>> did_you_mean("alhpa", ["alpha", "lr"])
        " Did you mean 'alpha'?"
    """
    near = difflib.get_close_matches(name, known, n=most, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
