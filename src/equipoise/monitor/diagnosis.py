"""`Diagnosis`: what the losses' gradients are like, before anything is balanced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from equipoise.autograd.inputs import Trained
from equipoise.autograd.targets import Wrt
from equipoise.losses import Losses, LossNames, loss_names
from equipoise.monitor.advice import Advice, advise
from equipoise.monitor.diagnosis_finding import find
from equipoise.monitor.diagnosis_findings import Batch, Findings
from equipoise.monitor.diagnosis_observer import Observer
from equipoise.monitor.diagnosis_summary import Summary
from equipoise.monitor.diagnosis_tables import as_dict, summarise
from equipoise.monitor.diagnosis_verdict import Judgement, Thresholds, Verdict, judge
from equipoise.parallel.processes import Processes

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from rich.console import RenderableType


class Diagnosis:
    """Tells from a few batches whether losses need balancing, and with what.

    Nothing is changed: no ``.grad``, no model, no global random generator; the graph is kept, so
    that the user's own backward pass can follow. (Hooks on watched tensors see the passes, as in
    every `torch.autograd.grad`; those that wait for ``.grad`` do not.) In data-parallel training
    every process observes its part of each batch; gradients are averaged, and the verdict is the
    same on all.

    A batch costs one backward pass per loss. Kept are ``T + 1`` gradients, ``T`` more while
    measuring, and for each batch ``T`` sketches of 4096 numbers, from which all that is said of
    noise is worked out: exact for up to 4096 watched parameters, else to about 0.02 in a cosine.

    Args:
        names: How many losses there are, or their unique names; at least two.
        wrt: Which parameters are watched: ``"shared"``, ``"last_shared"``, a module or parameters.
            (The representation is another tensor in each batch, so gradients with respect to it
            cannot be averaged.)
        scale: From which ratio of gradient norms on losses differ in scale.
        conflict: From which cosine down gradients conflict.
        noise: How large the noise of the mean gradient may be against its signal, both squared.
        confidence: Of all intervals. See `Thresholds` for where the defaults come from.
        trained: What is trained, if not all that losses share: an optimizer, or parameters.
        process_group: The processes of a data-parallel run; default all.

    Raises:
        ValueError: If there is one loss only, a threshold is out of range, or ``wrt`` is
            ``"representation"``.

    Example:
        >>> import torch
        >>> import equipoise as eq
        >>> model = torch.nn.Linear(3, 2)
        >>> diagnosis = eq.Diagnosis(["near", "far"])
        >>> for _ in range(10):
        ...     x = torch.ones(8, 3) + 0.1 * torch.rand(8, 3)
        ...     y = model(x).sum(dim=1) - 100
        ...     losses = {"near": y.square().mean(), "far": 1000 * y.square().mean()}
        ...     diagnosis.observe(losses)
        >>> diagnosis.verdict
        'scale'
        >>> [advice.method for advice in diagnosis.advice][:2]
        ['FirstValue', 'Uncertainty(scale="first_value")']
    """

    def __init__(
        self,
        names: LossNames,
        wrt: Wrt = "shared",
        *,
        scale: float = Thresholds.scale,
        conflict: float = Thresholds.conflict,
        noise: float = Thresholds.noise,
        confidence: float = Thresholds.confidence,
        trained: Trained | None = None,
        process_group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        self.names = loss_names(names)
        self.thresholds = Thresholds(scale, conflict, noise, confidence)
        _check(self.names, wrt)
        self._observer = Observer(self.names, wrt, Processes(process_group), trained)
        self._batches: list[Batch] = []
        self._found: tuple[Findings, Judgement] | None = None

    def observe(self, losses: Losses) -> None:
        """Looks at the losses of one batch: one backward pass per loss, the graph is kept.

        A loss that is absent, a number, without a graph, or not finite is left out of this batch
        and counted.

        Args:
            losses: A mapping by name, a sequence in order, or a ``[T]`` tensor.

        Raises:
            TypeError: If a loss is not a floating-point tensor, or the watched parameters are
                sharded.
            ValueError: If no loss is there or has a graph, a name is unknown, or a loss is no
                scalar.
            SharingError: If what is shared cannot be told, as in a wholly compiled model.
        """
        self._batches.append(self._observer.look(losses))
        self._found = None

    @property
    def batches(self) -> int:
        """How many batches were observed."""
        return len(self._batches)

    @property
    def findings(self) -> Findings:
        """All that was found, in numbers.

        Raises:
            RuntimeError: If no batch was observed.
        """
        return self._judged()[0]

    @property
    def verdict(self) -> Verdict:
        """``"scale"``, ``"conflict"``, ``"both"``, ``"noise"`` (cannot be told) or ``"fine"``.

        Raises:
            RuntimeError: If no batch was observed.
        """
        return self._judged()[1].verdict

    @property
    def sentence(self) -> str:
        """The verdict in a sentence.

        Raises:
            RuntimeError: If no batch was observed.
        """
        return self._judged()[1].sentence

    @property
    def batches_needed(self) -> float:
        """How many batches would do where the verdict is ``"noise"``, else 0.

        Raises:
            RuntimeError: If no batch was observed.
        """
        return self._judged()[1].batches_needed

    @property
    def advice(self) -> tuple[Advice, ...]:
        """Two or three methods to try, each with its price; the plain sum alone if that is best.

        Raises:
            RuntimeError: If no batch was observed.
        """
        findings, judgement = self._judged()
        return advise(judgement, findings)

    @property
    def summary(self) -> Summary:
        """All that is shown to people, as text in tables.

        Raises:
            RuntimeError: If no batch was observed.
        """
        return summarise(*self._judged(), self.advice)

    def to_dict(self) -> dict[str, object]:
        """All of it in lists, strings and numbers, ready for JSON; what is unknown is ``None``.

        Raises:
            RuntimeError: If no batch was observed.
        """
        findings, judgement = self._judged()
        return as_dict(findings, judgement, self.advice, self.thresholds)

    def plot(self) -> go.Figure:
        """Norms, shares and cosines as a figure.

        Raises:
            ImportError: If plotly is not installed.
            RuntimeError: If no batch was observed.
        """
        from equipoise.monitor.diagnosis_plot import picture

        return picture(self.findings, self.sentence)

    def __str__(self) -> str:
        """A table, the verdict in a sentence, what to try and what it costs."""
        if not self._batches:
            return repr(self)
        return self.summary.as_text()

    def __repr__(self) -> str:
        """Losses and state in a line."""
        return f"Diagnosis({', '.join(self.names)}; {self.batches} batches observed)"

    def _repr_html_(self) -> str:
        return self.summary.as_html() if self._batches else f"<p>{self!r}</p>"

    def __rich__(self) -> RenderableType:
        """For `rich.print` and consoles."""
        return self.summary.as_rich() if self._batches else repr(self)

    def _judged(self) -> tuple[Findings, Judgement]:
        if not self._batches:
            msg = "Nothing was observed yet: call `observe(losses)` with the losses of some batches"
            raise RuntimeError(f"{msg}, 10 to 20 of them.")
        if self._found is None:
            adam_norms = self._observer.sums.adam_norms()
            findings = find(self.names, self._batches, adam_norms, self.thresholds.confidence)
            self._found = findings, judge(findings, self.thresholds)
        return self._found


def _check(names: tuple[str, ...], wrt: Wrt) -> None:
    if len(names) < 2:
        msg = f"`names` has one loss, {names[0]!r}: there is nothing to balance it with."
        raise ValueError(msg)
    if isinstance(wrt, str) and wrt == "representation":
        msg = (
            "`wrt` is 'representation', which is another tensor in each batch; gradients of "
            "several batches add up for parameters only. Write 'shared' or 'last_shared'."
        )
        raise ValueError(msg)
