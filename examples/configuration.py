"""The method in a configuration file: by name and options, from YAML or with Hydra.

    pip install equipoise pyyaml
    python examples/configuration.py

With Hydra the same lines are `_target_: equipoise.create_balancer` and
`hydra.utils.instantiate(config.balancer, losses=[...])`.
"""

from __future__ import annotations

import torch
import yaml

import equipoise as eq

CONFIG = """
balancer:
  name: gradnorm
  alpha: 0.5
  every: 10
  priorities: {depth: 2.0}
optimizer:
  name: mtadam
  lr: 1.0e-3
"""


def main() -> None:
    config = yaml.safe_load(CONFIG)
    balancer = eq.create_balancer(losses=["depth", "normals"], **config["balancer"])
    print(type(balancer).__name__, "of", ", ".join(balancer.names))

    model = torch.nn.Linear(3, 2)
    optimizer = eq.create_optimizer(params=model.parameters(), **config["optimizer"])
    print(type(optimizer).__name__, "with lr", optimizer.param_groups[0]["lr"])

    try:
        eq.create_balancer("gradnrom", ["depth", "normals"])
    except ValueError as error:
        print(error)


if __name__ == "__main__":
    main()
