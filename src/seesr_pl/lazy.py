"""Import the names of a package on first use, for a fast start."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def attributes(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of `package`; `modules` gives the module of each name.

    A module without a dot is one of the package. The function raises AttributeError for other names.
    """

    def getattribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = modules[name] if "." in modules[name] else f"{package}.{modules[name]}"
        return getattr(importlib.import_module(module), name)

    return getattribute
