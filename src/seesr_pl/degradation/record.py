"""A degradation that was applied, as plain values: a file can hold it, and it can be applied again."""

from collections.abc import Mapping
from typing import Any

from seesr_pl.degradation.codec import Pixels
from seesr_pl.degradation.kernels import Kernel
from seesr_pl.degradation.real_esrgan import BicubicDegradation, FixedParams, NoDegradation, RealESRGANDegradation
from seesr_pl.degradation.stage import DegradationParams, StageParams

_FIXED: dict[str, type[BicubicDegradation | NoDegradation]] = {"bicubic": BicubicDegradation, "area": NoDegradation}


def recorded(degradation: Any, params: Any) -> dict[str, Any] | None:
    """Return what `degrade_again` needs, as JSON holds it; None for a degradation that is not of this package."""
    if type(degradation) is RealESRGANDegradation:
        options = {"chroma_upsampling": degradation.chroma_upsampling, "scale": degradation.scale}
        return {"chain": "real_esrgan", **options, "params": _plain(params)}
    for name, kind in _FIXED.items():
        if type(degradation) is kind:
            return {"chain": name, "scale": degradation.scale}
    return None


def degrade_again(image: Pixels, record: Mapping[str, Any]) -> Pixels:
    """Degrade `image`, uint8 RGB (h, w, 3), as `record` of `recorded` says; it is not sharpened before.

    The HQ image of a pair gives its LQ image, pixel for pixel; where the chain sharpened it, but for a few levels:
    the LQ image was made before the sharpened image was rounded. Raises ValueError for a record of another form, or an
    image that the degradation does not take.
    """
    try:
        chain, scale = record["chain"], record["scale"]
        if chain in _FIXED:
            return _FIXED[chain](scale=scale).apply(image, FixedParams())[1]
        if chain != "real_esrgan":
            raise ValueError(f"the chain {chain!r} of a recorded degradation is not known")
        params = _params(record["params"])
        again = RealESRGANDegradation(sharpen=False, chroma_upsampling=record["chroma_upsampling"], scale=scale)
    except (KeyError, TypeError) as error:
        raise ValueError(f"a recorded degradation is not of the form that is written here: {error!r}") from error
    return again.apply(image, params)[1]


def _plain(params: Any) -> Any:
    named = hasattr(params, "_asdict")
    return {name: _plain(value) for name, value in params._asdict().items()} if named else params


def _params(values: Mapping[str, Any]) -> DegradationParams:
    first, second = (_stage(values[name]) for name in ("first", "second"))
    last = _kernel(values["final_kernel"])
    return DegradationParams(**{**values, "first": first, "second": second, "final_kernel": last})


def _stage(values: Mapping[str, Any]) -> StageParams:
    return StageParams(**{**values, "kernel": _kernel(values["kernel"])})


def _kernel(values: Mapping[str, Any] | None) -> Kernel | None:
    return None if values is None else Kernel(**values)
