"""Docstrings run where what they need is installed."""

from __future__ import annotations

from importlib.util import find_spec

FRAMEWORKS = ("accelerate", "deepxde", "lightning", "pina", "transformers")

collect_ignore = [
    f"equipoise/integrations/{name}.py" for name in FRAMEWORKS if find_spec(name) is None
]
