from __future__ import annotations

import pytest

from equipoise.aggregation.dualproj import DualProj
from equipoise.aggregation.upgrad import UPGrad


@pytest.mark.parametrize("method", [DualProj, UPGrad])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm_eps": -1.0}, "`norm_eps` is -1.0"),
        ({"reg_eps": -1.0}, "`reg_eps` is -1.0"),
        ({"preference": [1.0, -1.0]}, "`preference` is .*negative"),
        ({"preference": {"a": 1.0}}, "`preference` lacks 'b'"),
    ],
)
def test_bad_options_are_refused_by_name(method, options, message):
    with pytest.raises(ValueError, match=message):
        method(["a", "b"], **options)
