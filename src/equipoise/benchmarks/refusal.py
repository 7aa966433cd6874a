"""The answer to a request that cannot be carried out: one line that says what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """A request that cannot be carried out; the message is one line for the user to read."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name nearest to a misspelt one, for an error message.

    Args:
        name: What was written.
        known: What could have been meant.

    Returns:
        A question that ends in a space; empty where nothing is near.

    Example:
        >>> did_you_mean("alhpa", ["alpha", "lr"])
        "Did you mean 'alpha'? "
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}? " if close else ""
