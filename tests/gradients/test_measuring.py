from __future__ import annotations

import pytest

from equipoise.gradients.measuring import Measuring


def test_budgets_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 rows"):
        Measuring(rows=1)
    with pytest.raises(ValueError, match="`chunk` is 0"):
        Measuring(chunk=0)
