"""DeepXDE: a Poisson problem, balanced with Adam and then with L-BFGS.

pip install "equipoise[deepxde]"
python examples/deepxde_poisson.py
"""

from __future__ import annotations

import os

os.environ.setdefault("DDE_BACKEND", "pytorch")

import deepxde as dde
import torch

import equipoise as eq
from equipoise.integrations.deepxde import Balance


def residual(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    return dde.grad.hessian(u, x) + torch.pi**2 * torch.sin(torch.pi * x)


def main() -> None:
    dde.config.set_random_seed(0)
    line = dde.geometry.Interval(-1, 1)
    boundary = dde.icbc.DirichletBC(line, lambda x: 0 * x, lambda _, on_boundary: on_boundary)
    data = dde.data.PDE(
        line,
        residual,
        boundary,
        num_domain=32,
        num_boundary=2,
        solution=lambda x: torch.sin(torch.pi * torch.as_tensor(x)).numpy(),
        num_test=100,
    )
    model = dde.Model(data, dde.nn.FNN([1, 20, 20, 20, 1], "tanh", "Glorot normal"))

    balancer = eq.ReLoBRaLo(["residual", "boundary"])
    balance = Balance(balancer)
    model.compile("adam", lr=1e-3, metrics=["l2 relative error"], verbose=0)
    model.train(iterations=500, callbacks=[balance], display_every=500)
    print("weights after Adam:  ", balancer.weights)

    dde.optimizers.set_LBFGS_options(maxiter=100)
    model.compile("L-BFGS", metrics=["l2 relative error"], verbose=0)
    model.train(callbacks=[balance])
    print("weights after L-BFGS:", balancer.weights)


if __name__ == "__main__":
    main()
