"""Compiled functions in the graph: what can be told of them, and how often they may be passed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node

from equipoise.autograd.graph import Parting, SharingError, edges_of

SETTING = (
    "Write `import torch._functorch.config` and `torch._functorch.config.donated_buffer = False` "
    "before the model is compiled."
)


class KeptForPasses:
    """Keeps the graphs of compiled functions that several passes go through, and warns of it once.

    A compiled function gives its buffers away for good in a pass that frees its graph, and no later
    one could go through it again: those of this step, or of a loss that starts later. One that has
    given them away refuses every pass that keeps its graph. So whatever goes through a compiled
    function more than once, in one step or in some, keeps its graph in every pass; and whatever
    goes through it once in every step, keeps it in none.
    """

    def __init__(self) -> None:
        self._looked = False

    def warn(self, losses: Sequence[Tensor]) -> None:
        """Warns where the graph of the first step holds what may give its buffers away.

        Args:
            losses: Where the graph begins.
        """
        if not self._looked:
            self._looked = True
            if is_compiled(losses, may_donate):
                _warn_of_donated_buffers()

    def needed(self, losses: Sequence[Tensor]) -> bool:
        """Whether a pass that is not alone has to keep this graph; warns as `warn` does.

        Args:
            losses: Where the graph begins.
        """
        self.warn(losses)
        return is_compiled(losses)


def is_compiled_node(node: Node) -> bool:
    """Whether a node is the backward of a compiled or scripted function.

    One of TorchScript has no class of its own in Python, as all other functions do, and goes by the
    name of C++ functions in general.
    """
    return may_donate(node) or not node.name().endswith(type(node).__name__)


def may_donate(node: Node) -> bool:
    """Whether a node is the backward of what `torch.compile` made, which may give buffers away."""
    return hasattr(getattr(type(node), "_forward_cls", None), "compiled_fw")


def is_compiled(
    losses: Sequence[Tensor], compiled: Callable[[Node], bool] = is_compiled_node
) -> bool:
    """Whether some part of the graph is a compiled function.

    Args:
        losses: Where the graph begins.
        compiled: Which nodes count as one.
    """
    stack = [node for node, _ in edges_of(losses)]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if compiled(node):
            return True
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append(child)
    return False


def refuse_parting_in_compiled(parting: Parting, instead: str) -> None:
    """Raises where the graph cannot tell what is shared, as the paths part in a compiled function.

    Args:
        parting: Where the losses of one step part.
        instead: What the user may write in place of it.

    Raises:
        SharingError: If the losses leave a compiled function by different outputs.
    """
    if parting.count < 2:
        return
    # One set of losses on all outputs means that they part above it, where the graph can be read.
    for node, outputs in parting.edges.items():
        if len(set(outputs.values())) > 1 and is_compiled_node(node):
            msg = (
                "The paths of the losses part inside a compiled or scripted function, where shared "
                f"parameters and heads cannot be told apart. Pass {instead}, or compile the shared "
                "part alone: `model.trunk.compile()`."
            )
            raise SharingError(msg)


def _warn_of_donated_buffers() -> None:
    """Warns where a compiled function is to be passed several times, unless PyTorch expects it.

    As soon as its input changes shape (the last batch of an epoch is enough), the compiler builds a
    function that can go backward but once, and the training would end there.
    """
    # A compiled function is there, so the compiler has imported its settings by now.
    if not torch._functorch.config.donated_buffer:
        return
    msg = (
        "The gradients of several losses are measured through a compiled function. Once its input "
        "changes shape, PyTorch builds one that can go backward but once, and this training would "
        f"end. {SETTING}"
    )
    warnings.warn(msg, stacklevel=2)
