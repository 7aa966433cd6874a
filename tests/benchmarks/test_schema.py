from __future__ import annotations

from dataclasses import asdict, dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.benchmarks.schema import conform, read_json


@dataclass
class Inner:
    name: str
    on: bool = False


@dataclass
class Outer:
    count: int
    inner: Inner
    curve: list[float | None]
    table: dict[str, list[int]] = field(default_factory=dict)


GOOD = {"count": 3, "inner": {"name": "a"}, "curve": [1, None, 2.5], "table": {"x": [1]}}


def test_a_whole_object_becomes_an_instance_with_its_defaults():
    assert conform(Outer, GOOD) == Outer(3, Inner("a"), [1.0, None, 2.5], {"x": [1]})
    assert conform(Outer, {key: GOOD[key] for key in ("count", "inner", "curve")}).table == {}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": "3"}, "count is '3', not a whole number"),
        ({"count": 3.0}, "count is 3.0, not a whole number"),
        ({"count": True}, "count is true, not a whole number"),
        ({"count": 10**30}, "count is 10000.*, not a whole number"),
        ({"inner": []}, "inner is a list, not an object"),
        ({"inner": {}}, "inner lacks 'name'"),
        ({"inner": {"name": None}}, "inner.name is null, not a text"),
        ({"inner": {"name": "a", "on": 1}}, "inner.on is 1, not true or false"),
        ({"inner": {"name": "\ud800"}}, "inner.name holds half a character"),
        ({"inner": {"name": "a", "of": 1}}, "inner has 'of', which this version does not know"),
        ({"curve": {}}, "curve is an object"),
        ({"curve": [1, "2"]}, r"curve\[1\] is '2', not a number or null"),
        ({"curve": [1e999]}, r"curve\[0\] is too large a number"),
        ({"curve": [10**400]}, r"curve\[0\] is too large a number"),
        ({"curve": [[1]]}, r"curve\[0\] is a list, not a number or null"),
        ({"table": {"x": [1, None]}}, r"table.x\[1\] is null, not a whole number"),
        ({"table": {"\udc00": []}}, "a name in table holds half a character"),
    ],
)
def test_what_does_not_conform_is_named_by_its_place_and_shown(wrong, message):
    with pytest.raises(ValueError, match=message):
        conform(Outer, {**GOOD, **wrong})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[NaN]", "NaN is no number in JSON"),
        (b"[-Infinity]", "-Infinity is no number in JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b'["\xff"]', "not UTF-8 from byte 3 on"),
        (b"\x00\x01\x02", "no JSON"),
    ],
    ids=range(8),
)
def test_what_is_no_strict_json_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        read_json(text)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from([*GOOD, "more"]), ANYTHING))
def test_whatever_comes_either_conforms_or_is_a_value_error(changes):
    try:
        read = conform(Outer, {**GOOD, **changes})
    except ValueError:
        return
    assert conform(Outer, asdict(read)) == read
