"""`Drawing`: random numbers whose generator is part of the saved state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from equipoise.parallel.processes import Processes
from equipoise.state import Stateful


class Drawing(Stateful):
    """A part of a balancer that draws random numbers on the CPU and resumes bit for bit.

    Args:
        names: The names of the losses.
        generator: Where numbers come from; ``None`` makes one, seeded by torch's own generator, so
            that ``torch.manual_seed`` before construction fixes it.
    """

    generator_state: Tensor

    def __init__(self, names: tuple[str, ...], generator: torch.Generator | None = None) -> None:
        super().__init__(names)
        if generator is None:
            generator = torch.Generator()
            generator.manual_seed(int(torch.randint(2**62, ())))
        self.generator = generator
        self._agreed = False
        self.register_buffer("generator_state", generator.get_state())

    def agree(self, processes: Processes) -> None:
        """Gives every process of a data-parallel run the generator of the first, once.

        Args:
            processes: Those of the run.
        """
        if not self._agreed and processes.count > 1:
            self.generator.set_state(processes.of_first(self.generator.get_state()))
            self._agreed = True

    def draw(self, sample: Callable[[torch.Generator], Tensor], like: Tensor) -> Tensor:
        """One draw, in the dtype and on the device of another tensor.

        Args:
            sample: Draws from the generator, on the CPU, for example
                ``lambda generator: torch.randn(3, generator=generator)``.
            like: Tells dtype and device.

        Returns:
            What ``sample`` returned, moved.
        """
        return sample(self.generator).to(like, non_blocking=True)

    def uniform(self, size: int, like: Tensor) -> Tensor:
        """Many uniform numbers at once, drawn where they are needed.

        On an accelerator its own generator draws, started from a number drawn here.

        Args:
            size: How many.
            like: Tells dtype and device.

        Returns:
            ``[size]`` numbers in [0, 1).
        """
        if like.device.type == "cpu":
            return self.draw(lambda source: torch.rand(size, generator=source), like)
        start = int(torch.randint(2**62, (), generator=self.generator))
        source = torch.Generator(like.device).manual_seed(start)
        return torch.rand(size, generator=source, device=like.device).to(like)

    def reset_parameters(self) -> None:
        """Keeps the generator, which no ``to_empty()`` reaches."""
        super().reset_parameters()
        self.generator_state = self.generator.get_state()

    def _save_to_state_dict(self, *args: Any) -> None:  # noqa: ANN401
        self.generator_state.copy_(self.generator.get_state())
        super()._save_to_state_dict(*args)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:  # noqa: ANN401
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.generator.set_state(self.generator_state.cpu())

    def _convert(self, extra: dict[str, Any], state_dict: dict[str, Any], prefix: str) -> None:
        state_dict[f"{prefix}generator_state"] = extra["generator"]
