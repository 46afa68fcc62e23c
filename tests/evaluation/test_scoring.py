"""Metrics by name: known ones work, absent ones give a reason, unknown ones an error."""

import importlib.util

import pytest

from seesr_pl.evaluation import FIDELITY, image_metrics, psnr_rgb, psnr_y, score, ssim_y


def test_score_gives_each_metric_its_name(picture):
    sr, hr = picture(0), picture(1)
    assert score(sr, hr) == {"psnr_y": psnr_y(sr, hr), "ssim_y": ssim_y(sr, hr)}
    metrics = image_metrics(["psnr_rgb", "psnr_y"]).available
    assert list(score(sr, hr, metrics).items()) == [("psnr_rgb", psnr_rgb(sr, hr)), ("psnr_y", psnr_y(sr, hr))]


def test_metrics_that_need_a_reference_are_left_out_without_one(picture):
    assert score(picture(0), None, FIDELITY) == {}
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
