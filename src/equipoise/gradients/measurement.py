"""`Measurement`: what was measured in a step, and how it reaches ``.grad``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from equipoise.gradients.factored import FactoredGradients
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.passes import Passes
from equipoise.gradients.update import Update, of_parts, of_rows

if TYPE_CHECKING:
    from equipoise.autograd.targets import Target
    from equipoise.gradients.apply import BackwardPass
    from equipoise.losses import Terms


@dataclass(frozen=True)
class Measurement:
    """What was measured in a step.

    Attributes:
        gradients: What the method sees: gradients of the losses, without any loss scale.
        passes: The backward passes, with what they found of each loss's own parameters.
        sizes: The number of elements of each target.
        rows: ``[T, P]``, if they are all that is needed of the losses to write ``.grad``: those of
            all that is shared (no further pass), or of the representation (one, from there on).
            They carry the loss scale, and shared inputs of the model behind the watched columns.
        factored: In place of the rows, where they were not formed.
    """

    gradients: Gradients
    passes: Passes
    sizes: list[int]
    rows: Tensor | None = None
    factored: FactoredGradients | None = None

    def weighted(self, weights: Tensor, own_weights: Tensor) -> Update | None:
        """The update of weighted losses, where no further pass from them is needed.

        Args:
            weights: ``[T]``, those of the losses.
            own_weights: ``[T]``, those of each loss's own leaves.
        """
        if self.factored is not None:
            return of_parts(self.passes, self.factored.parts(weights), weights, own_weights)
        if self.rows is not None:
            return of_rows(self.passes, self.rows, weights, own_weights, self.passes.sizes)
        return None

    def combined(
        self, how: BackwardPass, terms: Terms, gradient: Tensor, plain: Tensor
    ) -> list[Update]:
        """The updates of a combined gradient; what is not watched gets the plain sum.

        Args:
            how: How the step goes backward.
            terms: The losses of the step.
            gradient: ``[P]``, without any loss scale.
            plain: ``[len(present)]``, the weights of what is not watched.
        """
        seed = self.passes.seed
        gradient = gradient if seed is None else gradient * seed.to(gradient.dtype)
        if self.rows is None:
            return how.onward(terms, self.shaped(gradient), plain)
        inputs = self.rows[:, gradient.numel() :]
        rest = plain.to(inputs.dtype) @ inputs
        parts = [*gradient.split(self.sizes), *rest.split(self.input_sizes)]
        return [of_parts(self.passes, [part.clone() for part in parts], plain, plain)]

    @property
    def input_sizes(self) -> list[int]:
        """The number of elements of each shared input of the model, behind the targets."""
        return self.passes.sizes[len(self.sizes) :]

    def shaped(self, combined: Tensor) -> list[tuple[Target, Tensor]]:
        """A ``[P]`` gradient as one tensor for each target, of its shape and dtype."""
        targets, shaped = self.passes.targets, self.passes.shaped
        parts = combined.split(self.sizes)
        return [(t, shaped(t, part.clone())) for t, part in zip(targets, parts, strict=True)]
