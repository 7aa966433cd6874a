"""JSON that comes from a file, checked at the door: what is read has the types that it says."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from equipoise.benchmarks.refusal import RequestError

Read = TypeVar("Read")

_LARGEST_INTEGER = 1 << 53  # as JSON's readers agree on, the plotting library among them


def read_json(text: str | bytes) -> object:
    """Parses JSON strictly.

    Args:
        text: JSON, as UTF-8 where it is bytes.

    Returns:
        What it says.

    Raises:
        ValueError: If it is none, holds NaN or an infinity, or nests too deeply to be ours.

    Example:
        >>> read_json('{"a": [1, null]}')
        {'a': [1, None]}
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode(), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 from byte {error.start + 1} on") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} at character {error.pos + 1}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no number in JSON")


def read_kept(kind: type[Read], path: Path) -> Read | None:
    """What a file keeps.

    Args:
        kind: As for `conform`.
        path: Of the file.

    Returns:
        Its value; ``None`` where there is no such file.

    Raises:
        RequestError: If the file is there and holds something else, or cannot be read.
    """
    try:
        return conform(kind, read_json(path.read_bytes())) if path.exists() else None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise RequestError(f"{path} cannot be read ({error}); correct or delete it.") from error


def conform(kind: type[Read], value: object, place: str = "it") -> Read:
    """A value that has the type it should have.

    Args:
        kind: A dataclass, or a type made of ``str``, ``bool``, ``int``, ``float``, ``None``,
            ``list[...]`` and ``dict[str, ...]``.
        value: As `read_json` returns it.
        place: What it is called in messages.

    Returns:
        The value; of a dataclass, an instance.

    Raises:
        ValueError: If it is something else; the message names the place and shows the value.

    Example:
        >>> conform(list[float | None], [1, None, 2.5], "curve")
        [1.0, None, 2.5]
    """
    return cast("Read", _conform(kind, value, place))


def _conform(kind: Any, value: object, place: str) -> object:  # noqa: ANN401 (any annotation)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _conform_union(arguments, value, place)
    if origin is list and isinstance(value, list):
        return [_conform(arguments[0], item, f"{place}[{i}]") for i, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {
            _conform(str, key, f"a name in {place}"): _conform(arguments[1], item, f"{place}.{key}")
            for key, item in value.items()
        }
    if is_dataclass(kind) and isinstance(value, dict):
        return _build(cast("type", kind), value, place)
    return _conform_scalar(kind, value, place)


def _conform_union(members: tuple[Any, ...], value: object, place: str) -> object:
    if value is None and type(None) in members:
        return None
    (member,) = (member for member in members if member is not type(None))
    try:
        return _conform(member, value, place)
    except _WrongTypeError as error:
        raise _WrongTypeError(f"{error} or null") from None


def _build(kind: type, value: Mapping[str, object], place: str) -> object:
    known = {field.name: field for field in fields(kind)}
    for name in value:
        if name not in known:
            raise ValueError(f"{place} has {_shown(name)}, which this version does not know")
    for name, field in known.items():
        if name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{place} lacks {name!r}")
    hints = _hints(kind)
    within = "" if place == "it" else f"{place}."
    return kind(**{name: _conform(hints[name], value[name], within + name) for name in value})


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


class _WrongTypeError(ValueError):
    """A value of another type than the annotation's."""


def _conform_scalar(kind: Any, value: object, place: str) -> object:  # noqa: ANN401
    # Python counts `True` among the integers; JSON does not.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number:
        return _finite(cast("float", value), place)
    if kind is int and number and isinstance(value, int) and abs(value) < _LARGEST_INTEGER:
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str):
        return _encodable(value, place)
    raise _WrongTypeError(f"{place} is {_shown(value)}, not {_WANTED.get(kind, 'an object')}")


_WANTED: Mapping[object, str] = types.MappingProxyType(
    {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}
)


def _finite(value: float, place: str) -> float:
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{place} is too large a number")
    return number


def _encodable(value: str, place: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{place} holds half a character, {_shown(value)}") from None
    return value


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    shown = ascii(value) if isinstance(value, str) else json.dumps(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
