"""Mistakes that a type checker finds before the training does."""

from __future__ import annotations

import torch

import equipoise as eq

balancer = eq.GradNorm(["a", "b"], alhpa=1.5)  # expect-error: call-arg
eq.GradNorm(["a", "b"], alpha="large")  # expect-error: arg-type
eq.GradNorm(["a", "b"], wrt=3)  # expect-error: arg-type
eq.GradNorm(["a", "b"], nonfinite="ignore")  # expect-error: arg-type
eq.Equal(["a", "b"], wrt="shared")  # expect-error: call-arg
eq.Equal(["a", 1])  # expect-error: list-item
eq.DWA(["a", "b"], windows="sideways")  # expect-error: arg-type
eq.Equal(2, priorities={"a": "high"})  # expect-error: dict-item
eq.Fixed(["a", "b"])  # expect-error: call-arg
eq.Primary(torch.nn.Linear(2, 2), "a")  # expect-error: arg-type
eq.Primary(eq.Equal(2), primary=0)  # expect-error: arg-type
eq.Shares(eq.Equal(2), {"a": "most"})  # expect-error: dict-item
eq.CRMOGM(2, inner=eq.MTAdam)  # expect-error: arg-type
eq.create_balancer("gradnorm")  # expect-error: call-arg
eq.MTAdam([torch.ones(1)], betas=(0.9, 0.999))  # expect-error: arg-type
eq.MTAdam([torch.ones(1)], granularity="row")  # expect-error: arg-type
eq.Gradients([[1.0, 2.0]])  # expect-error: arg-type
