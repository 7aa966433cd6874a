"""`GramianGradients`: gradients of which the inner products are all that is left."""

from __future__ import annotations

from torch import Tensor

from equipoise.gradients.gradients import Gradients


class GramianGradients(Gradients):
    """Gradients of which the inner products are all that is known.

    Args:
        gram: ``[T, T]``.
    """

    def __init__(self, gram: Tensor) -> None:
        self._known = gram

    def __len__(self) -> int:
        return len(self._known)

    @property
    def sizes(self) -> list[int]:
        """No column is known."""
        return []

    @property
    def like(self) -> Tensor:
        """The Gramian."""
        return self._known

    def columns(self) -> Tensor:
        """Refused.

        Raises:
            TypeError: Always.
        """
        msg = "Only the Gramian is kept here; this method needs the gradients themselves."
        raise TypeError(msg)

    def _measure_gram(self) -> Tensor:
        return self._known

    def _measure_norms(self) -> Tensor:
        return self.gram().diagonal().clamp(min=0).sqrt()
