"""Nested plain values, as a config is made of."""

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value below mappings and lists that is neither, with its dotted path."""
    if not isinstance(value, Mapping | list):
        yield path, value
        return
    children = value.items() if isinstance(value, Mapping) else enumerate(value)
    for name, child in children:
        yield from leaves(child, f"{path}.{name}" if path else str(name))
