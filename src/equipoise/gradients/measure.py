"""`measure`: gradients of several losses, once, for a user to look at."""

from __future__ import annotations

from equipoise.autograd.precision import full_precision
from equipoise.autograd.targets import Wrt, watch
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.measuring import Measuring
from equipoise.gradients.meter import Meter
from equipoise.losses import Losses, names_brought, read_losses
from equipoise.parallel.processes import Processes


@full_precision()
def measure(
    losses: Losses, wrt: Wrt = "shared", *, measuring: Measuring | None = None
) -> Gradients:
    """Measures the gradients of losses on the live graph, for diagnosis and for one's own methods.

    The graph is kept, so that a backward pass can follow. Nothing is averaged between processes.

    Args:
        losses: A mapping by name, a sequence, or a ``[T]`` tensor.
        wrt: ``"shared"``, ``"last_shared"``, ``"representation"``, a module, parameter(s), or a
            tensor of the graph.
        measuring: What to spend.

    Returns:
        The gradients, ``T x P``.

    Raises:
        ValueError: If a loss is not a scalar or has no graph, or the losses share nothing.

    Example:
        >>> import torch
        >>> parameter = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> measure({"a": parameter.sum(), "b": (parameter**2).sum()}).gram()
        tensor([[ 2.,  6.],
                [ 6., 20.]])
    """
    terms = read_losses(losses, names_brought(losses))
    meter = Meter(measuring or Measuring(), Processes(alone=True))
    watched = watch(terms.tensors, wrt, terms.names)
    return meter.run(terms, watched, retain_graph=True, applies=False).gradients
