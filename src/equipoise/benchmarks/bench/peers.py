"""Other libraries' steps on the same models: measured where they are installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType, ModuleType

from torch import nn

from equipoise.benchmarks.bench.cases import Backward, Case
from equipoise.benchmarks.bench.models import Outputs, PricedModel

# The methods that both have, by our name: how an aggregator is made for so many losses.
_TORCHJD: Mapping[str, Callable[[ModuleType, int], Callable[..., object]]] = MappingProxyType(
    {
        "alignedmtl": lambda torchjd, _losses: torchjd.AlignedMTL(),
        "cagrad": lambda torchjd, _losses: torchjd.CAGrad(c=0.5),
        "config": lambda torchjd, _losses: torchjd.ConFIG(),
        "dualproj": lambda torchjd, _losses: torchjd.DualProj(),
        "fairgrad": lambda torchjd, _losses: torchjd.FairGrad(alpha=1.0),
        "graddrop": lambda torchjd, _losses: torchjd.GradDrop(),
        "gradvac": lambda torchjd, _losses: torchjd.GradVac(),
        "imtlg": lambda torchjd, _losses: torchjd.IMTLG(),
        "mgda": lambda torchjd, _losses: torchjd.MGDA(),
        "nashmtl": lambda torchjd, losses: torchjd.NashMTL(n_tasks=losses),
        "pcgrad": lambda torchjd, _losses: torchjd.PCGrad(),
        "upgrad": lambda torchjd, _losses: torchjd.UPGrad(),
    }
)
_CHUNKS: Mapping[str, int | None] = MappingProxyType({"batched": None, "pass by pass": 1})
_CONFLICTFREE: Mapping[str, str] = MappingProxyType(
    {"config": "ConFIGOperator", "pcgrad": "PCGradOperator", "imtlg": "IMTLGOperator"}
)


def peer_cases(methods: Iterable[str]) -> tuple[list[Case], list[str]]:
    """The rows of other libraries.

    Args:
        methods: The registry's names; a peer is measured if it has one of these methods.

    Returns:
        The rows, and one line for each library that is not installed.
    """
    chosen, cases, missing = set(methods), [], []
    for package, (module, rows) in _PEERS.items():
        wanted = [case for case in rows() if case.method in chosen]
        if find_spec(module) is not None:
            cases += wanted
        elif wanted:
            missing.append(f"{package} is not installed: pip install {package}")
    return cases, missing


def _torchjd_cases() -> list[Case]:
    return [
        Case(f"TorchJD {name}", partial(_torchjd_step, name, chunk), "peer", name, variant=variant)
        for name in _TORCHJD
        for variant, chunk in _CHUNKS.items()
    ]


def _torchjd_step(name: str, chunk: int | None, model: PricedModel) -> Backward:
    """A step of TorchJD's recommended loop."""
    autojac = import_module("torchjd.autojac")
    aggregator = _TORCHJD[name](import_module("torchjd.aggregation"), model.count)

    def backward(outputs: Outputs) -> None:
        if outputs.shared is None:
            autojac.backward(outputs.losses, parallel_chunk_size=chunk)
        else:
            autojac.mtl_backward(outputs.losses, features=outputs.shared, parallel_chunk_size=chunk)
        autojac.jac_to_grad(model.trunk.parameters(), aggregator)

    return backward


def _gradnorm_pytorch_cases() -> list[Case]:
    return [Case("gradnorm-pytorch", _gradnorm_pytorch_step, "peer", "gradnorm")]


def _gradnorm_pytorch_step(model: PricedModel) -> Backward:
    weighter: nn.Module = import_module("gradnorm_pytorch").GradNormLossWeighter(
        num_losses=model.count, grad_norm_parameters=model.last_shared_weight
    )
    weighter.to(model.inputs.device)
    return lambda outputs: weighter(outputs.losses)


def _conflictfree_cases() -> list[Case]:
    return [
        Case(f"conflictfree {name}", partial(_conflictfree_step, operator), "peer", name)
        for name, operator in _CONFLICTFREE.items()
    ]


def _conflictfree_step(operator: str, model: PricedModel) -> Backward:
    """The loop of its documentation, on one forward pass for all losses."""
    utils = import_module("conflictfree.utils")
    combine = getattr(import_module("conflictfree.grad_operator"), operator)()

    def backward(outputs: Outputs) -> None:
        gradients = []
        for loss in outputs.losses:
            model.zero_grad()
            loss.backward(retain_graph=loss is not outputs.losses[-1])
            gradients.append(utils.get_gradient_vector(model, none_grad_mode="zero"))
        utils.apply_gradient_vector_para_based(model, combine.calculate_gradient(gradients))

    return backward


_PEERS: Mapping[str, tuple[str, Callable[[], list[Case]]]] = MappingProxyType(
    {
        "torchjd": ("torchjd", _torchjd_cases),
        "gradnorm-pytorch": ("gradnorm_pytorch", _gradnorm_pytorch_cases),
        "conflictfree": ("conflictfree", _conflictfree_cases),
    }
)
