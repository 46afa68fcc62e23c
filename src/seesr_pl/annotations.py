"""Check values against the annotations of constructor arguments: their types, and the limits of numbers."""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, ParamSpec, TypeVar, Union, get_args, get_origin

P = ParamSpec("P")
R = TypeVar("R")


class Limits(NamedTuple):
    """The numbers that an argument may be, in `Annotated[int, Limits(1)]`: `minimum` to `maximum`, more than `above`.

    None is no limit, `also` is allowed besides. What is no number is not limited.
    """

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    also: float | None = None

    def problem(self, value: Any) -> str:
        """Return what `value` must be, "" where it is."""
        if isinstance(value, list | tuple):
            return next((text for each in value if (text := self.problem(each))), "")
        if not isinstance(value, int | float) or isinstance(value, bool) or value == self.also:
            return ""
        low = self.minimum is None or value >= self.minimum
        fits = low and (self.maximum is None or value <= self.maximum) and (self.above is None or value > self.above)
        return "" if fits else f"must be {self._in_words()}"

    def _in_words(self) -> str:
        if self.above is not None:
            return f"more than {self.above:g}"
        words = f"{self.minimum:g} to {self.maximum:g}" if self.maximum is not None else f"at least {self.minimum:g}"
        return words if self.also is None else f"{words}, or {self.also:g}"


Count = Annotated[int, Limits(1)]
"""A number of things of which there is at least one."""
Amount = Annotated[int, Limits(0)]
"""A number of things, or none."""
Positive = Annotated[float, Limits(above=0)]
NotNegative = Annotated[float, Limits(0)]
Fraction = Annotated[float, Limits(0, 1)]
FOREIGN_LIMITS: Mapping[str, Mapping[str, Limits]] = {
    "lightning.Trainer": {
        "max_steps": Limits(1),
        "devices": Limits(1, also=-1),
        "num_nodes": Limits(1),
        "log_every_n_steps": Limits(1),
        "val_check_interval": Limits(above=0),
        "limit_val_batches": Limits(0),
        "limit_train_batches": Limits(0),
        "gradient_clip_val": Limits(0),
        "num_sanity_val_steps": Limits(-1),
    },
    "torch.optim.AdamW": {"weight_decay": Limits(0), "eps": Limits(0)},
    "lightning.pytorch.callbacks.EMAWeightAveraging": {"decay": Limits(0, 1)},
}
"""Limits of other libraries' constructors, which state none, and end in a traceback or do something else."""


def within_limits(function: Callable[P, R]) -> Callable[P, R]:
    """Let a constructor raise ValueError where an argument is not within the `Limits` of its annotation."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        hints = hints_of(function)
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if problem := _out_of_limits(value, hints.get(name)):
                raise ValueError(f"{name}={value} {problem}")
        return function(*args, **kwargs)

    return checked


def misfit(value: Any, hint: Any) -> str:
    """Return what is wrong with `value` for the annotation `hint`, its type or a limit; "" for nothing."""
    if not accepts(value, hint):
        return f"expected {in_words(hint)}, got {type(value).__name__}"
    return _out_of_limits(value, hint)


def accepts(value: Any, hint: Any) -> bool:
    """Return whether the type of a value from YAML fits the annotation `hint` of a constructor argument."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return accepts(value, arguments[0])
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
    return not (origin is Callable or (isinstance(hint, type) and hint in (int, float, str, bool, Path)))


def hints_of(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a constructor or function by argument; {} where they cannot be resolved."""
    # A library's annotations may name types that are imported for type checkers only; then types are not checked.
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def in_words(hint: Any) -> str:
    """Return an annotation in the words of an error message, e.g. "int or str"."""
    if get_origin(hint) is Annotated:
        return in_words(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(in_words(argument) for argument in get_args(hint))
    if get_origin(hint) is Callable:
        return "a mapping with _target_"
    if get_origin(hint) is list:
        return f"a list of {in_words(get_args(hint)[0])}"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _out_of_limits(value: Any, hint: Any) -> str:
    """Return the first limit of the annotation, or of a member of its union, that `value` breaks."""
    arguments = get_args(hint)
    if get_origin(hint) is Annotated:
        return next((text for each in arguments[1:] if isinstance(each, Limits) and (text := each.problem(value))), "")
    if get_origin(hint) in (Union, types.UnionType):
        return next((text for each in arguments if (text := _out_of_limits(value, each))), "")
    return ""


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
