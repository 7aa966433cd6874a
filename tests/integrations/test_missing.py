from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("framework", ["lightning", "transformers", "deepxde", "pina"])
def test_a_framework_that_is_not_installed_is_named_with_the_command_that_installs_it(
    framework,
) -> None:
    code = (
        f"import sys; sys.modules[{framework!r}] = None\nimport equipoise.integrations.{framework}"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert f'pip install "equipoise[{framework}]"' in done.stderr.splitlines()[-1]


def test_importing_equipoise_imports_no_framework() -> None:
    code = (
        "import sys, equipoise, equipoise.integrations.physicsnemo\n"
        "import equipoise.integrations.accelerate\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "sys.exit(bool(loaded & {'lightning', 'transformers', 'accelerate', 'deepxde', 'pina'}))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
