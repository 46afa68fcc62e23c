"""PSNR and SSIM: identities, closed forms, published values. By name: known ones work, absent ones give a reason."""

import importlib.util

import cv2
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from seesr_pl.evaluation import FIDELITY, image_metrics, psnr_rgb, psnr_y, score, ssim_y
from seesr_pl.evaluation.iqa import CLASH, _reason, iqa
from seesr_pl.evaluation.metrics import luma, ssim_rgb


def _photo(seed: int, size: int = 48) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (size, size, 3)).astype(np.float32)
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 2) * 4 - 380, 0, 255).astype(np.uint8)


def test_equal_images_have_infinite_psnr_and_unit_ssim():
    image = _photo(0)
    assert psnr_y(image, image) == psnr_rgb(image, image) == float("inf")
    assert ssim_y(image, image) == pytest.approx(1.0, abs=1e-12)


def test_luma_spans_the_limited_range():
    black_and_white = np.array([[[0, 0, 0], [255, 255, 255]]], dtype=np.uint8)
    np.testing.assert_allclose(luma(black_and_white), [[16, 235]])


@pytest.mark.parametrize("step", [1, 7, 40])
def test_psnr_of_a_constant_grey_offset_has_the_closed_form(step):
    grey = np.full((16, 16, 3), 100, dtype=np.uint8)
    assert psnr_rgb(grey + np.uint8(step), grey) == pytest.approx(20 * np.log10(255 / step))
    assert psnr_y(grey + np.uint8(step), grey) == pytest.approx(20 * np.log10(255 * 255 / (219 * step)))


def test_limited_range_luma_lies_1_32_db_above_full_range_luma():
    sr, hr = _photo(1), _photo(2)
    weights = np.array([0.299, 0.587, 0.114])
    full = 10 * np.log10(255**2 / np.mean((sr @ weights - hr @ weights) ** 2))
    assert psnr_y(sr, hr) - full == pytest.approx(20 * np.log10(255 / 219), abs=1e-3)


def test_ssim_equals_an_independent_implementation_where_no_term_is_clamped():
    hr = _photo(3)
    sr = np.clip(hr.astype(np.int16) + np.random.default_rng(0).integers(-4, 5, hr.shape), 0, 255).astype(np.uint8)
    _, values = structural_similarity(
        np.round(luma(sr)), np.round(luma(hr)), data_range=255, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    assert ssim_y(sr, hr) == pytest.approx(values[5:-5, 5:-5].mean(), abs=1e-6)


@pytest.mark.parametrize(("first", "second"), [(0, 255), (0, 51), (102, 153)])
def test_ssim_of_two_flat_images_is_their_luminance_term(first, second):
    # No variance: the contrast term is C2 / C2. Luma is 16 + 219 g / 255, rounded: 59.8, 103.6 and 147.4 are not whole.
    a, b = (round(16 + 219 * grey / 255) for grey in (first, second))
    sr, hr = (np.full((16, 16, 3), grey, dtype=np.uint8) for grey in (first, second))
    assert ssim_y(sr, hr) == pytest.approx((2 * a * b + 2.55**2) / (a**2 + b**2 + 2.55**2), abs=1e-9)


def test_ssim_counts_opposite_structure_as_none():
    stripes = np.zeros((16, 16, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert ssim_y(stripes, 255 - stripes) == 0.0


@pytest.mark.parametrize(
    ("sr", "message"),
    [
        (np.zeros((20, 24, 3), np.uint8), "sr is 24x20 and hr is 20x20"),
        (np.zeros((20, 20, 3), np.float32), "sr must be a uint8 RGB array HxWx3, got float32"),
        (np.zeros((20, 20), np.uint8), "sr must be a uint8 RGB array"),
    ],
)
def test_images_that_cannot_be_compared_are_named(sr, message):
    with pytest.raises(ValueError, match=message):
        psnr_y(sr, np.zeros((20, 20, 3), np.uint8))


def test_ssim_of_an_image_smaller_than_its_window_is_refused():
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim_y(np.zeros((10, 40, 3), np.uint8), np.zeros((10, 40, 3), np.uint8))


def test_score_gives_each_metric_its_name(make_image):
    sr, hr = make_image(0), make_image(1)
    assert score(sr, hr) == {"psnr_y": psnr_y(sr, hr), "ssim_y": ssim_y(sr, hr)}
    metrics = image_metrics(["psnr_rgb", "psnr_y"]).available
    assert list(score(sr, hr, metrics).items()) == [("psnr_rgb", psnr_rgb(sr, hr)), ("psnr_y", psnr_y(sr, hr))]


def test_metrics_that_need_a_reference_are_left_out_without_one(make_image):
    assert score(make_image(0), None, FIDELITY) == {}
    found = image_metrics(["psnr_y"], has_reference=False)
    assert found.available == []
    assert "needs reference images" in found.skipped["psnr_y"]


def test_a_name_given_twice_is_computed_once():
    assert [metric.name for metric in image_metrics(["psnr_y", "psnr_y"]).available] == ["psnr_y"]


def test_niqe_without_its_parameters_is_skipped_with_the_key_to_give():
    assert "niqe_parameters=PATH" in image_metrics(["niqe"]).skipped["niqe"]


@pytest.mark.skipif(importlib.util.find_spec("pyiqa") is not None, reason="pyiqa is installed")
def test_a_metric_of_an_extra_that_is_not_installed_is_skipped_with_the_command():
    assert "pip install 'seesr-pl[iqa]'" in image_metrics(["musiq"]).skipped["musiq"]


@pytest.mark.parametrize(("name", "near"), [("pnsr_y", "psnr_y"), ("ssim", "ssim_y"), ("MUSIQ", "musiq")])
def test_an_unknown_name_is_refused_with_the_nearest_one(name, near):
    with pytest.raises(ValueError, match=f"'{name}' is not a metric; did you mean '{near}'"):
        image_metrics([name])


def test_a_cropped_border_does_not_count():
    sr, hr = _photo(1), _photo(2)
    for function in (psnr_y, psnr_rgb, ssim_y, ssim_rgb):
        assert function(sr, hr, crop_border=4) == function(sr[4:-4, 4:-4], hr[4:-4, 4:-4])
    with pytest.raises(ValueError, match="at least 11 pixels a side are needed inside crop_border=20, got 48x48"):
        ssim_y(sr, hr, crop_border=20)


def test_the_range_of_luma_is_an_option_by_name():
    sr, hr = _photo(1), _photo(2)
    assert psnr_y(sr, hr) - psnr_y(sr, hr, luma_range="full") == pytest.approx(20 * np.log10(255 / 219), abs=1e-3)
    white = np.full((16, 16, 3), 255, dtype=np.uint8)
    np.testing.assert_allclose(luma(white, "full"), 255)


def test_ssim_of_colors_is_the_mean_over_the_channels():
    hr = _photo(3)
    sr = np.clip(hr.astype(np.int16) + np.random.default_rng(0).integers(-4, 5, hr.shape), 0, 255).astype(np.uint8)
    _, values = structural_similarity(
        sr, hr, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True, channel_axis=2
    )
    assert ssim_rgb(sr, hr) == pytest.approx(values[5:-5, 5:-5].mean(), abs=1e-6)


def test_options_reach_the_metrics_by_name_and_change_the_version_of_their_scores():
    sr, hr = _photo(1), _photo(2)
    plain = image_metrics(["psnr_y", "ssim_y"]).available
    other = image_metrics(["psnr_y", "ssim_y"], crop_border=4, luma_range="full").available
    expected = [function(sr, hr, crop_border=4, luma_range="full") for function in (psnr_y, ssim_y)]
    assert list(score(sr, hr, other).values()) == expected
    assert not {metric.version for metric in plain} & {metric.version for metric in other}


def test_a_torchvision_of_another_build_is_named_in_one_line():
    error = RuntimeError("operator torchvision::nms does not exist")
    assert _reason(error) == CLASH
    wrapped = ModuleNotFoundError("Could not import module 'BloomPreTrainedModel'")
    wrapped.__context__ = error
    assert _reason(wrapped) == CLASH
    assert len(CLASH.splitlines()) == 1
    assert "could not be had (no network)" in _reason(OSError("no network\nmore"))
    assert _reason(ImportError("no module timm")) == "pyiqa is installed but cannot be used: no module timm"


def test_a_file_for_a_metric_that_does_not_exist_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="'muisq' is not a metric; did you mean 'musiq'"):
        image_metrics(["psnr_y"], weights={"muisq": "x"})
    monkeypatch.setattr("seesr_pl.evaluation.iqa.find_spec", lambda name: name)
    with pytest.raises(ValueError, match=r"nowhere\.pth does not exist"):
        iqa("musiq", device="cpu", weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(ValueError, match=r"clipiqa\+ takes no file"):
        iqa("clipiqa+", device="cpu", weights=__file__)


@pytest.mark.slow
def test_published_numbers_of_realsr_are_met_to_four_decimals(benchmarks):
    scores = []
    for path in sorted((benchmarks / "realsr" / "results_osediff").glob("*.png")):
        sr, hr = (cv2.imread(str(p))[..., ::-1] for p in (path, benchmarks / "realsr" / "test_HR" / path.name))
        scores.append((psnr_y(sr, hr), ssim_y(sr, hr)))
    assert len(scores) == 100
    assert np.mean(scores, axis=0).round(4).tolist() == [25.1511, 0.7341]


def test_other_parameters_of_niqe_are_another_version(tmp_path):
    versions = set()
    for shift in (0, 1):
        arrays = {"mu_pris_param": np.full((1, 36), shift), "cov_pris_param": np.eye(36)}
        np.savez(tmp_path / "niqe.npz", **arrays, gaussian_window=np.full((7, 7), 1 / 49))
        versions.add(image_metrics(["niqe"], niqe_parameters=str(tmp_path / "niqe.npz")).available[0].version)
    assert len(versions) == 2
