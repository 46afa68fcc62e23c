"""Every setting of sampling: its name, type, default, limits and help text, here and nowhere else.

The pipeline's call, the options of `seesr restore`, `sampler` in conf/, validation panels and the web page are views of
`Sampling`: a new setting is one field.
"""

import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from seesr_pl.annotations import Limits


class Setting(typing.NamedTuple):
    """One field of `Sampling` as its views need it.

    `choices` are the values of a Literal, else (); `short` is a second name of the option, such as "--steps".
    """

    name: str
    hint: Any
    default: Any
    help: str
    limits: Limits
    choices: tuple[str, ...]
    short: str | None


def _setting(
    default: Any, help: str, *, minimum: float | None = None, maximum: float | None = None, short: str | None = None
) -> Any:
    facts = {"help": help, "limits": Limits(minimum, maximum), "short": short}
    return dataclasses.field(default=default, metadata=facts)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How images are restored; the defaults are the official ones (test_seesr.py:242-266 at 8edecc7).

    Raises ValueError for a value outside its limits.
    """

    num_inference_steps: int = _setting(50, "steps of the scheduler", minimum=1, short="--steps")
    guidance_scale: float = _setting(5.5, "classifier-free guidance; 1 is none", minimum=1, short="--guidance")
    guidance_fraction: float = _setting(1.0, "guide the first part of the steps only", minimum=0, maximum=1)
    conditioning_scale: float = _setting(1.0, "weight of the ControlNet's residuals", minimum=0)
    scheduler: Literal["own", "ddpm", "ddim", "unipc", "dpmpp"] = _setting(
        "own", "own: the one that the weights come with"
    )
    start_from: Literal["lq", "noise"] = _setting("lq", "start latent: the encoded LQ image (LRE), or noise alone")
    upscale: float = _setting(4, "size of the result over that of the input", minimum=0.1)
    process_size: int = _setting(512, "shortest side of the image at work, in pixels; less is faster", minimum=8)
    color_fix: Literal["adain", "wavelet", "none"] = _setting("adain", "take the colors of the LQ image")
    prompt: str = _setting("", "words between the tags and the added prompt")
    added_prompt: str = _setting("clean, high-resolution, 8k", "words after all others")
    negative_prompt: str = _setting("dotted, noise, blur, lowres, smooth", "what guidance leads away from")
    tile: int = _setting(96, "side of a latent tile", minimum=1)
    overlap: int = _setting(4, "overlap of latent tiles", minimum=0)
    tile_batch_size: int = _setting(4, "latent tiles in one forward pass", minimum=1)
    vae_tile: int | None = _setting(None, "tile of the VAE in pixels; default: above the official limits", minimum=64)
    batch_size: int = _setting(1, "images of equal size worked on together", minimum=1)
    guidance_in_one_batch: bool = _setting(True, "both halves of guidance in one pass; off: less memory, slower")
    cache: bool = _setting(True, "compute once what the steps share; results are equal")
    recipe: Literal["default", "official"] = _setting("default", "official: its side effects too (docs/recipe.md)")

    def __post_init__(self) -> None:
        for setting in settings():
            _check(setting, getattr(self, setting.name))
        if self.overlap >= self.tile:
            raise ValueError(f"overlap={self.overlap} must be below tile={self.tile}")

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """Return a copy with `changes`; ValueError that names an unknown setting and the nearest known one."""
        known = [setting.name for setting in settings()]
        for name in changes:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ValueError(f"{name} is no sampling setting; {hint}known: {', '.join(known)}")
        return dataclasses.replace(self, **changes)


def at_fidelity(sampling: Sampling, fidelity: float) -> Sampling:
    """Return `sampling` moved between generative (0) and faithful (1); 0.5 changes nothing.

    Guidance above 1 falls to none, the ControlNet weighs 0.8 to 1.2 times as much; below 0.25 the start is noise alone,
    from 0.75 on the color fix keeps all low frequencies of the LQ image. Raises ValueError outside 0 to 1.
    """
    if not 0 <= fidelity <= 1:
        raise ValueError(f"fidelity={fidelity} must be from 0 (generative) to 1 (faithful)")
    changes: dict[str, Any] = {
        "guidance_scale": 1 + 2 * (1 - fidelity) * (sampling.guidance_scale - 1),
        "conditioning_scale": sampling.conditioning_scale * (0.8 + 0.4 * fidelity),
    }
    if fidelity < 0.25:
        changes["start_from"] = "noise"
    if fidelity >= 0.75:
        changes |= {"start_from": "lq", "color_fix": "wavelet"}
    return sampling.changed(changes)


def settings() -> list[Setting]:
    """Return the fields of `Sampling`, in order."""
    hints = typing.get_type_hints(Sampling)
    return [
        Setting(field.name, hints[field.name], field.default, choices=_choices(hints[field.name]), **field.metadata)
        for field in dataclasses.fields(Sampling)
    ]


def sampler(**changes: Any) -> dict[str, Any]:
    """Return the settings that are given and not None: those that a config changes of a run's own sampler.

    Raises ValueError for a value outside its limits.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    OFFICIAL.changed(given)
    return given


def with_settings(function: Callable[..., Any], annotate: Callable[[Setting], Any]) -> Callable[..., Any]:
    """Give `function`, whose last parameter is **changes, a keyword parameter for each setting, None by default.

    `annotate` returns the annotation of each. Whatever reads signatures (the check of configs, the command line) then
    finds every setting.
    """
    signature = inspect.signature(function)
    *others, _ = signature.parameters.values()
    kind = inspect.Parameter.KEYWORD_ONLY
    extra = [inspect.Parameter(s.name, kind, default=None, annotation=annotate(s)) for s in settings()]
    function.__signature__ = signature.replace(parameters=[*others, *extra])  # type: ignore[attr-defined]  # any function may have one
    hints = {parameter.name: parameter.annotation for parameter in (*others, *extra)}
    function.__annotations__ = {**hints, "return": signature.return_annotation}
    return function


def _choices(hint: Any) -> tuple[str, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()


def _check(setting: Setting, value: Any) -> None:
    name = setting.name
    if setting.choices:
        if value not in setting.choices:
            raise ValueError(f"{name}={value!r} is not one of {', '.join(setting.choices)}")
        return
    kinds = get_args(setting.hint) if get_origin(setting.hint) in (typing.Union, types.UnionType) else (setting.hint,)
    fits = isinstance(value, (*kinds, int) if float in kinds else kinds)
    if not fits or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join("None" if kind is types.NoneType else kind.__name__ for kind in kinds)
        raise ValueError(f"{name}={value!r} must be of type {names}")
    if problem := setting.limits.problem(value):
        raise ValueError(f"{name}={value} {problem}")


OFFICIAL = Sampling()
"""The official settings, with which the published tables were made."""
UNIPC20 = Sampling(scheduler="unipc", num_inference_steps=20)
"""UniPC (Zhao et al., 2023): 2.4 times fewer FLOPs an image than official (benchmarks/restore.py), other results."""
DPMPP20 = Sampling(scheduler="dpmpp", num_inference_steps=20)
"""As `UNIPC20`, with DPM-Solver++ (Lu et al., 2022)."""
TURBO = Sampling(num_inference_steps=2, guidance_scale=1.0, overlap=32)
"""test_seesr_turbo.py: for sd-turbo with the RCA of SeeSR put in (`keep_base_unet`)."""

SAMPLERS = {
    "official": dataclasses.replace(OFFICIAL, scheduler="ddpm"),
    "unipc20": UNIPC20,
    "dpmpp20": DPMPP20,
    "turbo": TURBO,
}
"""Samplers by name, equal to the files of that name in conf/sampler; "official" is DDPM whatever the weights have."""

with_settings(sampler, lambda setting: Annotated[setting.hint | None, setting.limits])
