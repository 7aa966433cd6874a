"""One module a framework; each is imported by its own name and imports its framework then.

Lightning Fabric and Accelerate's own loops need none: pass ``backward=fabric.backward``.
"""

from __future__ import annotations


def missing(framework: str) -> ModuleNotFoundError:
    """The error where a framework is not installed.

    Args:
        framework: Its name, which is that of the extra.

    Returns:
        An error to raise, which names the command that installs it.
    """
    return ModuleNotFoundError(
        f"`equipoise.integrations.{framework}` needs {framework}, which is not installed: "
        f'pip install "equipoise[{framework}]"'
    )
