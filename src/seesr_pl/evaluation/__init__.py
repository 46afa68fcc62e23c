"""How good the pictures are: metrics, methods to compare, benchmarks, statistics, and the report."""

from seesr_pl.evaluation.metrics import PSNRY, SSIMY, psnr_rgb, psnr_y, ssim_y

__all__ = ["PSNRY", "SSIMY", "psnr_rgb", "psnr_y", "ssim_y"]
