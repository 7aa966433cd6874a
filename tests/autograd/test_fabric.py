from __future__ import annotations

import subprocess
import sys

import pytest

from equipoise.autograd.fabric import permitted


def test_without_fabric_nothing_happens_and_nothing_is_imported() -> None:
    code = (
        "import sys, equipoise.autograd.fabric as p\n"
        "with p.permitted(): pass\n"
        "sys.exit('lightning.fabric' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=True)


def test_an_error_inside_takes_the_permission_back() -> None:
    pytest.importorskip("lightning.fabric")
    from lightning.fabric import wrappers  # noqa: PLC0415

    def fail() -> None:
        with permitted(), permitted():
            assert wrappers._in_fabric_backward
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert not wrappers._in_fabric_backward
