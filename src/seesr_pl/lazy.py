"""Names of a package that are imported when first used, for a fast start."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def attributes(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of `package`; `modules` says in which of its modules, or elsewhere, each name lives."""

    def getattribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = modules[name] if "." in modules[name] else f"{package}.{modules[name]}"
        return getattr(importlib.import_module(module), name)

    return getattribute
