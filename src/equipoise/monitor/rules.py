"""What to take in which situation: the rules behind a diagnosis's advice and a page's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from equipoise.monitor.diagnosis_verdict import Verdict
from equipoise.registry import (
    capabilities,
    create_balancer,
    list_balancers,
)


@dataclass(frozen=True)
class Pick:
    """A method to take, and why.

    Attributes:
        method: The name of its class.
        why: What it does about the situation.
        options: Keywords that it is taken with.
        positive: Whether it needs losses above zero.
    """

    method: str
    why: str
    options: Mapping[str, str | float] = field(default_factory=dict)
    positive: bool = False

    @property
    def written(self) -> str:
        """The method as it stands in code, without the losses: ``CAGrad(wrt="representation")``."""
        options = ", ".join(
            f'{key}="{value}"' if isinstance(value, str) else f"{key}={value}"
            for key, value in self.options.items()
        )
        return f"{self.method}({options})" if options else self.method

    def passes(self, losses: int) -> int:
        """Backward passes through the shared part of the model in a step that looks at gradients.

        Args:
            losses: ``T``.
        """
        if self.method.lower() not in list_balancers():
            return losses  # a multi-term optimizer takes every loss's gradient, and no pass on top
        balancer = create_balancer(self.method, losses, **self.options)
        return capabilities(balancer).passes(losses)


@dataclass(frozen=True)
class Rule:
    """A situation, and what to take in it.

    Attributes:
        situation: As the page has it.
        picks: Best first.
        verdict: That of the diagnosis which finds this situation; none if only the user knows it.
        also: What the page adds.
    """

    situation: str
    picks: tuple[Pick, ...]
    verdict: Verdict | None = None
    also: str = ""


RULES = (
    Rule(
        "gradients of one size that agree (`fine`)",
        (
            Pick("Equal", "the plain sum: nothing was found that balancing could better"),
            Pick(
                "GradNorm",
                "in case sizes part later in the training: looks at every tenth step",
                {"every": 10},
            ),
        ),
        "fine",
    ),
    Rule(
        "gradients of different size (`scale`)",
        (
            Pick(
                "FirstValue",
                "starts every loss at 1: the cheapest remedy, and often enough",
                positive=True,
            ),
            Pick(
                "Uncertainty",
                "divides by first values too, and learns the rest from how each loss falls",
                {"scale": "first_value"},
                positive=True,
            ),
            Pick(
                "GradNorm",
                "learns weights that bring the norms together as they change",
                {"scale": "first_value"},
                positive=True,
            ),
            Pick("MTAdam", "in place of Adam: brings all gradients to one size in every layer"),
        ),
        "scale",
    ),
    Rule(
        "gradients that point against each other (`conflict`)",
        (
            Pick("UPGrad", "goes where, to first order, no loss rises"),
            Pick("PCGrad", "takes out of each gradient what opposes another"),
            Pick(
                "CAGrad",
                "helps the worst-off loss; looks where losses part, if one forward has them all",
                {"wrt": "representation"},
            ),
        ),
        "conflict",
    ),
    Rule(
        "both (`both`)",
        (
            Pick("ConFIG", "has the same cosine with every gradient, however long each is"),
            Pick(
                "UPGrad",
                "of losses that start alike, goes where to first order none rises",
                {"scale": "first_value"},
                positive=True,
            ),
            Pick("NashMTL", "bargains for relative progress, which no scale changes"),
        ),
        "both",
    ),
    Rule(
        "batches too noisy to tell (`noise`)",
        (
            Pick("Equal", "the plain sum, until more batches or larger ones tell"),
            Pick("Uncertainty", "looks at loss values alone, which are less noisy"),
            Pick("MoCo", "follows gradients averaged over steps, so that one batch decides less"),
        ),
        "noise",
    ),
    Rule(
        "the step may not cost more than it does now",
        (
            Pick(
                "Uncertainty",
                "learns a variance for each loss",
                {"scale": "first_value"},
                positive=True,
            ),
            Pick("FirstValue", "divides by first values", positive=True),
            Pick("SoftUncertainty", "weighs by inverse losses"),
        ),
    ),
    Rule(
        "tasks learn at different speed",
        (Pick("GradNorm", "gives slower tasks larger gradients"),),
        also="with `every=10` if time matters",
    ),
    Rule(
        "a physics-informed network",
        (
            Pick(
                "LearningRateAnnealing", "level with weights found by hand, once L-BFGS has ended"
            ),
            Pick("GradNorm", "gives each loss a gradient of like size"),
        ),
    ),
    Rule(
        "an adversarial loss beside a reconstruction",
        (
            Pick(
                "AdaptiveRatio",
                "gives it a tenth of the reconstruction's gradient at the last layer",
                {"ratio": 0.1},
            ),
        ),
        also="or `MTAdam` with a rank of 0.1 for the adversarial loss",
    ),
    Rule(
        '"80 % for this loss, 20 % for that"',
        (Pick("GradientShares", "gives each loss a stated part of the gradient"),),
    ),
    Rule(
        "one loss is the goal, the others help",
        (
            Pick("PCD", "follows the primary gradient as closely as the others allow"),
            Pick("MetaBalance", "brings each auxiliary gradient near the target's size"),
        ),
        also="or any method in `eq.Primary`",
    ),
    Rule(
        "you want to know whether balancing helps at all",
        (Pick("Equal", "the baseline"), Pick("RandomWeights", "what has to be beaten, too")),
        also="beside the method, in `equipoise compare`",
    ),
)
"""All situations, those that a diagnosis tells first."""


def price_in_losses(pick: Pick) -> str:
    """The passes of a pick, said of ``T`` losses.

    Args:
        pick: The method.
    """
    count = pick.passes(10)
    return {1: "1 pass", 10: "T passes", 11: "T + 1 passes"}.get(count, f"{count} passes")


def choices_table() -> str:
    """The table of `docs/which.md`, in Markdown."""
    rows = [("your situation", "take"), ("---", "---")]
    rows += [(rule.situation, _take(rule)) for rule in RULES]
    return "\n".join(f"| {situation} | {take} |" for situation, take in rows)


def _take(rule: Rule) -> str:
    named = [f"`{pick.written}` ({price_in_losses(pick)})" for pick in rule.picks]
    listed = " or ".join([", ".join(named[:-1]), named[-1]]) if len(named) > 1 else named[0]
    return f"{listed}, {rule.also}" if rule.also else listed
