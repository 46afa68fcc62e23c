"""The whole chain: its parameters, its order of operations, its limits."""

import inspect
import math
import pickle
import subprocess
import sys
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy.stats import spearmanr
from torch.nn.functional import conv2d, interpolate, pad

from seesr_pl.degradation import BicubicDegradation, DegradationParams, NoDegradation, RealESRGANDegradation, Stage
from seesr_pl.degradation.codec import jpeg, to_image, to_pixels
from seesr_pl.degradation.filters import usm_sharpen
from seesr_pl.degradation.noise import add_gaussian_noise, add_poisson_noise

CONF = Path(__file__).resolve().parents[2] / "conf" / "degradation"
MILD = Stage(blur_probability=0, resize_probabilities={"keep": 1}, noise_range=(0, 1), jpeg_range=(95, 95))


def test_parameters_are_a_pure_function_of_seed_epoch_and_index():
    names = [(seed, epoch, index) for seed in (0, 1) for epoch in (0, 3) for index in (0, 7, 2**40)]
    forward = [RealESRGANDegradation().sample(*name) for name in names]
    backward = [RealESRGANDegradation().sample(*name) for name in reversed(names)]
    assert forward == backward[::-1]
    assert len(set(forward)) == len(names)


@pytest.mark.whole
def test_parameters_and_pixels_are_the_same_in_another_process():
    code = "from seesr_pl.degradation import RealESRGANDegradation\n" + inspect.getsource(_fingerprint)
    far = subprocess.run([sys.executable, "-c", f"{code}\nprint(_fingerprint())"], capture_output=True, text=True)
    assert far.stdout.strip() == _fingerprint()


def test_parameters_survive_pickling():
    params = RealESRGANDegradation().sample(1, 2, 3)
    assert pickle.loads(pickle.dumps(params)) == params


def test_parameters_are_plain_scalars():
    def leaves(value):
        return [leaf for item in value for leaf in leaves(item)] if isinstance(value, tuple) else [value]

    kinds = {type(leaf) for index in range(50) for leaf in leaves(RealESRGANDegradation().sample(0, 0, index))}
    assert kinds <= {int, float, bool, str, type(None)}


def test_probabilities_of_the_draws_are_the_official_ones():
    draws = [RealESRGANDegradation().sample(0, 0, index) for index in range(4000)]

    def share(condition):
        return sum(map(condition, draws)) / len(draws)

    expected = {
        0.8: [lambda p: p.second.kernel is not None, lambda p: p.final_kernel is not None],
        0.9 * 0.45: [lambda p: p.first.kernel.kind == "iso"],
        0.1: [lambda p: p.first.kernel.kind == "sinc", lambda p: p.first.scale == 1],
        0.7: [lambda p: p.first.scale < 1],
        0.4: [lambda p: p.second.scale < 1, lambda p: p.first.gray_noise, lambda p: p.second.gray_noise],
        0.5: [lambda p: p.first.noise == "gaussian", lambda p: p.jpeg_last],
        1 / 3: [lambda p: p.first.resize_mode == "area", lambda p: p.final_resize_mode == "bicubic"],
    }
    for probability, conditions in expected.items():
        for condition in conditions:
            assert share(condition) == pytest.approx(probability, abs=4 * math.sqrt(0.25 / len(draws)))


def test_ranges_of_the_draws_are_the_official_ones():
    draws = [RealESRGANDegradation().sample(0, 0, index) for index in range(4000)]
    values = {
        (0.15, 1.5): [p.first.scale for p in draws],
        (0.3, 1.2): [p.second.scale for p in draws],
        (1, 30): [p.first.noise_strength for p in draws if p.first.noise == "gaussian"],
        (0.05, 2.5): [p.second.noise_strength for p in draws if p.second.noise == "poisson"],
        (30, 95): [p.second.jpeg_quality for p in draws],
        (0.2, 3): [p.first.kernel.sigma_x for p in draws if p.first.kernel.kind != "sinc"],
        (7, 21): [p.first.kernel.size for p in draws],
        (math.pi / 3, math.pi): [p.final_kernel.cutoff for p in draws if p.final_kernel],
    }
    for (low, high), drawn in values.items():
        assert low <= min(drawn) <= low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) <= max(drawn) <= high


@pytest.mark.parametrize("index", range(24))
def test_chain_equals_the_definition_in_torch(photograph, index):
    degradation = RealESRGANDegradation(sharpen=False)
    hq = photograph[100:356, 60:380]
    params = degradation.sample(11, 0, index)
    lq = degradation.apply(hq, params)[1]
    error = np.abs(lq.astype(int) - _torch_chain(hq, params))
    # A rounding that falls the other way in the level count or the first JPEG moves a few pixels, not the image.
    assert np.mean(error.astype(float) ** 2) < 255**2 * 10**-4
    assert np.mean(error <= 2) > 0.95


def test_sharpened_target_is_returned_and_degraded(photograph):
    sharp, plain = (RealESRGANDegradation(sharpen=sharpen) for sharpen in (True, False))
    params = sharp.sample(0, 0, 0)
    hq, lq = sharp.apply(photograph, params)
    assert np.abs(np.diff(hq.astype(int), axis=0)).mean() > np.abs(np.diff(photograph.astype(int), axis=0)).mean()
    assert np.abs(lq.astype(int) - plain.apply(hq, params)[1]).mean() < 2
    assert plain.apply(photograph, params)[0] is photograph


def test_the_default_target_is_the_sharpened_image(photograph):
    degradation = RealESRGANDegradation()
    hq, _ = degradation.apply(photograph, degradation.sample(0, 0, 0))
    np.testing.assert_array_equal(hq, to_pixels(usm_sharpen(to_image(photograph))))
    assert (hq != photograph).mean() > 0.05


def test_input_is_left_as_it_was(photograph):
    before = photograph.copy()
    RealESRGANDegradation().apply(photograph, RealESRGANDegradation().sample(0, 0, 0))
    np.testing.assert_array_equal(photograph, before)


@pytest.mark.parametrize("shape", [(32, 32), (64, 96), (36, 128)])
def test_small_images_come_out_at_a_quarter_of_the_size(photograph, shape):
    degradation = RealESRGANDegradation()
    hq = photograph[: shape[0], : shape[1]]
    for index in range(40):
        sharpened, lq = degradation.apply(hq, degradation.sample(0, 0, index))
        assert (sharpened.shape, lq.shape) == (hq.shape, (shape[0] // 4, shape[1] // 4, 3))
        assert (sharpened.dtype, lq.dtype) == (np.uint8, np.uint8)


@pytest.mark.parametrize("shape", [(28, 64, 3), (66, 64, 3), (64, 64), (64, 64, 4)])
def test_unfit_images_are_refused(shape):
    degradation = RealESRGANDegradation()
    with pytest.raises(ValueError, match="hq is"):
        degradation.apply(np.zeros(shape, np.uint8), degradation.sample(0, 0, 0))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"blur_probability": 1.5}, "blur_probability"),
        ({"jpeg_range": (0, 95)}, "jpeg_range"),
        ({"resize_range": (1.5, 0.15)}, "resize_range"),
        ({"kernel_probabilities": {"box": 1.0}}, "kernel_probabilities"),
        ({"kernel_sizes": (8,)}, "kernel_sizes"),
    ],
)
def test_impossible_ranges_are_refused_by_name(arguments, name):
    with pytest.raises(ValueError, match=name):
        Stage(**arguments)


def test_severity_lies_in_the_unit_interval_and_grows_with_the_ranges():
    mild, official = RealESRGANDegradation(MILD, MILD), RealESRGANDegradation()
    severities = [[setting.sample(0, 0, index).severity for index in range(300)] for setting in (mild, official)]
    assert min(map(min, severities)) >= 0
    assert max(map(max, severities)) <= 1
    assert np.mean(severities[0]) < 0.5 * np.mean(severities[1])


def test_severity_ranks_samples_as_their_psnr_does(photograph):
    degradation = RealESRGANDegradation(sharpen=False)
    hq = photograph[64:320, 64:320]
    clean = hq.reshape(64, 4, 64, 4, 3).mean((1, 3))
    draws = [degradation.sample(0, 0, index) for index in range(150)]
    errors = [np.mean((degradation.apply(hq, params)[1] - clean) ** 2) for params in draws]
    assert spearmanr([params.severity for params in draws], -np.log(errors)).statistic < -0.6


def test_shipped_official_setting_is_the_default():
    draws = [[setting.sample(3, 1, i) for i in range(50)] for setting in (_from_yaml("seesr"), RealESRGANDegradation())]
    assert draws[0] == draws[1]
    assert _from_yaml("seesr").sharpen


def test_shipped_pasd_setting_is_milder_and_does_not_sharpen():
    pasd = _from_yaml("pasd")
    assert not pasd.sharpen
    assert (pasd.first.jpeg_range, pasd.second.jpeg_range) == ([60, 95], [60, 100])
    assert (pasd.first.resize_range, pasd.second.resize_range) == ([0.3, 1.5], [0.6, 1.2])
    assert (pasd.first.noise_range, pasd.second.noise_range) == ([1, 15], [1, 12])
    assert (pasd.first.poisson_scale_range, pasd.second.poisson_scale_range) == ([0.05, 2], [0.05, 1])
    assert (pasd.first.blur_probability, pasd.second.blur_probability) == (1, 0.5)


def _fingerprint():
    import hashlib

    import numpy as np

    degradation = RealESRGANDegradation()
    hq = np.random.default_rng(0).integers(256, size=(64, 96, 3), dtype=np.uint8)
    digest = hashlib.sha256()
    for index in range(10):
        params = degradation.sample(0, 0, index)
        digest.update(repr(params).encode())
        digest.update(b"".join(image.tobytes() for image in degradation.apply(hq, params)))
    return digest.hexdigest()


def _from_yaml(name):
    return hydra.utils.instantiate(OmegaConf.load(CONF / f"{name}.yaml"), _convert_="all")


def _torch_chain(hq: np.ndarray, params: DegradationParams) -> np.ndarray:
    """Section by section as in utils_data/make_paired_data.py:106-246, with our noise and our codec."""
    size = (hq.shape[0] // 4, hq.shape[1] // 4)
    first, second = params.first, params.second
    image = _torch_blur(to_image(hq), first.kernel)
    image = _torch_resize(image, [int(side * first.scale) for side in hq.shape[:2]], first.resize_mode)
    image = to_image(jpeg(to_pixels(_noise(image, first)), first.jpeg_quality))
    image = _torch_blur(image, second.kernel)
    image = _torch_resize(image, [int(side * second.scale) for side in size], second.resize_mode)
    image = _noise(image, second)
    if params.jpeg_last:
        image = _torch_blur(_torch_resize(image, size, params.final_resize_mode), params.final_kernel)
        image = to_image(jpeg(to_pixels(image), second.jpeg_quality))
    else:
        image = to_image(jpeg(to_pixels(image), second.jpeg_quality))
        image = _torch_blur(_torch_resize(image, size, params.final_resize_mode), params.final_kernel)
    return to_pixels(image).astype(int)


def _noise(image, stage):
    add = add_gaussian_noise if stage.noise == "gaussian" else add_poisson_noise
    return add(image, stage.noise_strength, gray=stage.gray_noise, offset=stage.noise_offset)


def _torch_blur(image, kernel):
    if kernel is None:
        return image
    window = torch.from_numpy(kernel.matrix()).float()[None, None]
    planes = torch.from_numpy(image).permute(2, 0, 1)[:, None]
    planes = pad(planes, [kernel.size // 2] * 4, mode="reflect")
    return np.ascontiguousarray(conv2d(planes, window)[:, 0].permute(1, 2, 0).numpy())


def _torch_resize(image, size, mode):
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    planes = interpolate(planes, size=tuple(size), mode=mode, **({} if mode == "area" else {"align_corners": False}))
    return np.ascontiguousarray(planes[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("degradation", [BicubicDegradation(), NoDegradation()], ids=lambda item: type(item).__name__)
def test_plain_downscaling_returns_the_target_and_a_quarter_of_it(photograph, degradation):
    params = degradation.sample(0, 0, 0)
    hq, lq = degradation.apply(photograph, params)
    assert hq is photograph
    assert (lq.shape, lq.dtype) == ((128, 128, 3), np.uint8)
    assert params.severity == 0
    assert params == degradation.sample(1, 2, 3)


def test_no_degradation_is_the_mean_of_4x4_pixels(photograph):
    degradation = NoDegradation()
    lq = degradation.apply(photograph, degradation.sample(0, 0, 0))[1]
    mean = photograph.reshape(128, 4, 128, 4, 3).mean((1, 3))
    assert np.abs(lq - mean).max() <= 0.5


def test_bicubic_keeps_a_flat_image_and_is_sharper_than_the_mean(photograph):
    degradation = BicubicDegradation()
    flat = np.full((64, 64, 3), 77, np.uint8)
    assert (degradation.apply(flat, degradation.sample(0, 0, 0))[1] == 77).all()
    bicubic, mean = (way.apply(photograph, way.sample(0, 0, 0))[1] for way in (degradation, NoDegradation()))
    assert np.abs(np.diff(bicubic.astype(int), axis=0)).mean() > np.abs(np.diff(mean.astype(int), axis=0)).mean()
