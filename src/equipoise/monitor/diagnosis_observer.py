"""How one batch is looked at: what is there, what is watched, what is kept of its gradients."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from torch import Tensor

from equipoise.autograd import shared
from equipoise.autograd.graph import SharingError
from equipoise.autograd.inputs import Trained
from equipoise.autograd.precision import full_precision
from equipoise.autograd.targets import Held, Watched, Wrt
from equipoise.gradients.measurement import Measurement
from equipoise.gradients.measuring import Measuring
from equipoise.gradients.meter import Meter
from equipoise.losses import Losses, Terms, read_losses
from equipoise.monitor.diagnosis_findings import Batch
from equipoise.monitor.diagnosis_rows import (
    Layout,
    Sketch,
    Sums,
    cosines_of,
    gram_of,
    meeting,
)
from equipoise.parallel.processes import Processes


class Observer:
    """Looks at batch after batch.

    Args:
        names: Of the ``T`` losses.
        wrt: Which parameters are watched.
        processes: Those of the run.
        trained: What is trained, if that is said.
    """

    def __init__(
        self, names: tuple[str, ...], wrt: Wrt, processes: Processes, trained: Trained | None
    ) -> None:
        self.names = names
        self.sums = Sums(len(names))
        self._wrt = Held(wrt)
        self._processes = processes
        self._meter = Meter(Measuring(), processes, trained=trained)
        self._layout, self._sketch = Layout(), Sketch()

    @full_precision()
    def look(self, losses: Losses) -> Batch:
        """Measures the gradients of one batch; the graph is kept, nothing else is touched.

        Args:
            losses: As for `Diagnosis.observe`, whose errors these are.
        """
        terms = read_losses(losses, self.names, graphless="absent")
        if not any(loss.requires_grad for loss in terms.tensors):
            msg = "No loss has a graph; compute the losses outside of `torch.no_grad()`."
            raise ValueError(msg)
        graphless = tuple(i for i, _ in terms.constants)
        terms = self._processes.agree(terms)
        finite = terms.values().isfinite().tolist()
        batch = replace(self._unmeasured(terms, finite), graphless=graphless)
        terms = terms.among([place for place, good in enumerate(finite) if good])
        if not terms.present:
            return batch
        try:
            watched = self._watch(terms)
        except SharingError:
            if _some_share(terms) or not isinstance(self._wrt.named, str):
                raise
            return replace(batch, apart=terms.present)
        if watched is None:
            return batch
        run = self._meter.run(terms, watched, retain_graph=True, applies=False)
        return self._measured(batch, terms, run)

    def _watch(self, terms: Terms) -> Watched | None:
        watched = self._meter.watch(terms, self._wrt.named)
        if watched is None and self._layout.places:
            # One loss alone shares nothing in its batch; it has a gradient where others meet.
            return self._meter.watch(terms, tuple(self._layout.places))
        return watched

    def _unmeasured(self, terms: Terms, finite: list[bool]) -> Batch:
        """What the loss values tell."""
        count = len(self.names)
        values = np.full(count, math.nan)
        for i, value, good in zip(terms.present, terms.values().tolist(), finite, strict=True):
            values[i] = value if good else math.nan
        return Batch(
            values=values,
            norms=np.full(count, math.nan),
            cosines=np.full((count, count), math.nan),
            nonfinite=tuple(i for i, good in zip(terms.present, finite, strict=True) if not good),
        )

    def _measured(self, batch: Batch, terms: Terms, run: Measurement) -> Batch:
        """The same batch with what the gradients tell, which are added to the sums."""
        rows = self._placed(run)
        gram = gram_of(rows)
        finite = gram.diagonal().isfinite().tolist()
        reaching = [place for place in range(len(rows)) if place not in run.gradients.apart]
        kept = [place for place in reaching if finite[place]]
        lost = [place for place in reaching if not finite[place]]
        losses = [terms.present[place] for place in kept]
        rows, gram = rows[kept], gram[kept][:, kept]
        self.sums.add(losses, rows)
        sketches = self._sketch(rows).cpu().numpy()
        batch.norms[losses] = gram.diagonal().sqrt().cpu().numpy()
        cosines = cosines_of(gram).masked_fill(~meeting(rows), math.nan)
        batch.cosines[np.ix_(losses, losses)] = cosines.cpu().numpy()
        return replace(
            batch,
            sketches=dict(zip(losses, sketches, strict=True)),
            nonfinite=(*batch.nonfinite, *(terms.present[place] for place in lost)),
            apart=tuple(terms.present[place] for place in run.gradients.apart),
        )

    def _placed(self, run: Measurement) -> Tensor:
        """The rows, with each parameter's gradient where it was in other batches."""
        targets = run.passes.targets
        leaves = [target for target in targets if isinstance(target, Tensor) and target.is_leaf]
        if len(leaves) < len(targets):
            msg = "`wrt` names a tensor of one batch's graph; name parameters, which last."
            raise ValueError(msg)
        return self._layout.place(leaves, run.sizes, run.gradients.matrix())


def _some_share(terms: Terms) -> bool:
    """Whether some leaf is reached by two losses at least."""
    return any(mask & (mask - 1) for mask in shared.reach(terms.tensors).values())
