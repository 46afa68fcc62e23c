"""How good the pictures are: metrics, methods to compare, benchmarks, statistics, and the report."""

from seesr_pl.evaluation.benchmark import FolderBenchmark, Pair
from seesr_pl.evaluation.methods import Bicubic, GaussianBlur, Images, Method, NonLocalMeans, SeeSRMethod
from seesr_pl.evaluation.metrics import PSNRY, SSIMY, psnr_rgb, psnr_y, ssim_y
from seesr_pl.evaluation.report import Chart, Section, Table, format_number, write_report
from seesr_pl.evaluation.results import Comparison, Result, compare, load_result, result
from seesr_pl.evaluation.rrdbnet import RRDBNetMethod
from seesr_pl.evaluation.scoring import FIDELITY, ImageMetric, Metrics, image_metrics, score
from seesr_pl.evaluation.stages import aggregate, restore, score_all, write_scores, write_summary
from seesr_pl.evaluation.statistics import Interval, mean_interval, paired_interval, wilcoxon
from seesr_pl.evaluation.tables import latex_table, markdown_table

__all__ = [
    "FIDELITY",
    "PSNRY",
    "RRDBNetMethod",
    "SSIMY",
    "Bicubic",
    "Chart",
    "Comparison",
    "FolderBenchmark",
    "GaussianBlur",
    "ImageMetric",
    "Images",
    "Interval",
    "Method",
    "Metrics",
    "NonLocalMeans",
    "Pair",
    "Result",
    "Section",
    "SeeSRMethod",
    "Table",
    "aggregate",
    "compare",
    "format_number",
    "image_metrics",
    "latex_table",
    "load_result",
    "markdown_table",
    "mean_interval",
    "paired_interval",
    "psnr_rgb",
    "psnr_y",
    "restore",
    "result",
    "score",
    "score_all",
    "ssim_y",
    "wilcoxon",
    "write_report",
    "write_scores",
    "write_summary",
]
