"""Check values from YAML against the annotations of constructor arguments."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin


def accepts(value: Any, hint: Any) -> bool:
    """Return whether a value from YAML fits the annotation `hint` of a constructor argument."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(accepts(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if isinstance(value, dict) and "_target_" in value:
        return True
    if hint is type(None) or value is None:
        return value is None and (hint is type(None) or hint in (Any, object))
    if isinstance(value, bool):
        return hint in (bool, Any, object)
    if isinstance(value, int | float | str):
        return _accepts_scalar(value, hint)
    if isinstance(value, list):
        return _accepts_list(value, hint, origin, arguments)
    return not (isinstance(hint, type) and hint in (int, float, str, bool, Path))


def hints_of(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a constructor or function by argument; {} where they cannot be resolved."""
    # A library's annotations may name types that are imported for type checkers only; then types are not checked.
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):
        return {}


def in_words(hint: Any) -> str:
    """Return an annotation in the words of an error message, e.g. "int or str"."""
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(in_words(argument) for argument in get_args(hint))
    if get_origin(hint) is list:
        return f"a list of {in_words(get_args(hint)[0])}"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _accepts_scalar(value: float | str, hint: Any) -> bool:
    allowed = {int: (int,), float: (int, float), str: (str,), Path: (str,), complex: (int, float), bool: ()}
    if isinstance(hint, type) and hint in allowed:
        return isinstance(value, allowed[hint])
    origin = get_origin(hint) or hint
    if inspect.isclass(origin) and issubclass(origin, list | tuple | dict | set):
        return False
    return not (origin in (Sequence, Mapping) or origin is Callable)


def _accepts_list(value: list[Any], hint: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if hint in (int, float, str, bool, Path):
        return False
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(map(accepts, value, arguments))
    if inspect.isclass(origin) and issubclass(origin, list | tuple | Sequence) and arguments:
        return all(accepts(item, arguments[0]) for item in value)
    return True
