"""Options that several commands share: the sampling settings, and the weights to work with."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from seesr_pl.sampling.settings import Setting, with_settings


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command`, whose last parameter is **changes, an option for each field of `Sampling`."""
    return with_settings(command, _option)


def given(changes: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in changes.items() if value is not None}


def _option(setting: Setting) -> Any:
    names = [f"--{setting.name.replace('_', '-')}", setting.short] if setting.short else []
    official = "" if setting.default in (None, "") else f" (official: {setting.default})"
    minimum, maximum = setting.limits
    # No limits here: click would say them in other words than `Sampling` does everywhere else.
    range_ = "".join([f" from {minimum:g}" if minimum is not None else "", f" to {maximum:g}" if maximum else ""])
    help_text = f"{setting.help}{range_}{official}"
    return Annotated[setting.hint | None, typer.Option(*names, help=help_text, show_default=False)]
