"""Whether a saved state is one that an optimizer can go on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def check_saved(
    state_dict: Mapping[str, Any],
    kind: str,
    needed: frozenset[str],
    names: tuple[str, ...] | None,
) -> None:
    """Raises a ``ValueError`` if a state was saved by another optimizer, or for other losses.

    Args:
        state_dict: What is to be loaded.
        kind: What the optimizer is called.
        needed: What it keeps for each parameter.
        names: Its losses, ``None`` while not known.
    """
    group = state_dict["param_groups"][0]
    states = state_dict["state"].values()
    if "losses" not in group or not all(needed <= state.keys() for state in states):
        msg = (
            f"The state was not saved by {kind}, which needs {', '.join(sorted(needed))} of each "
            "parameter."
        )
        raise ValueError(msg)
    saved = group["losses"]
    if saved is not None and names not in (None, tuple(saved)):
        msg = (
            f"The state was saved for the losses {', '.join(saved)}, but this optimizer has "
            f"{', '.join(names or ())}; build it with `losses={saved!r}`."
        )
        raise ValueError(msg)
