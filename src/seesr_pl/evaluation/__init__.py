"""How good restored images are: metrics, methods, benchmarks, statistics, report. Names are imported when first used.

So `method=bicubic` loads neither a network library nor what draws charts.
"""

from typing import TYPE_CHECKING

from seesr_pl.lazy import attributes

if TYPE_CHECKING:
    from seesr_pl.evaluation.benchmark import FolderBenchmark, Pair
    from seesr_pl.evaluation.judge import (
        Comparison,
        Restored,
        Result,
        compare,
        load_result,
        restore,
        score_all,
        write_result,
    )
    from seesr_pl.evaluation.methods import Bicubic, GaussianBlur, Images, Method, NonLocalMeans
    from seesr_pl.evaluation.metrics import (
        FIDELITY,
        ImageMetric,
        Metrics,
        image_metrics,
        psnr_rgb,
        psnr_y,
        score,
        ssim_y,
    )
    from seesr_pl.evaluation.report import Chart, Section, Table, write_report
    from seesr_pl.evaluation.rrdbnet import RRDBNetMethod
    from seesr_pl.evaluation.seesr import SeeSRMethod
    from seesr_pl.evaluation.statistics import Interval, mean_interval, paired_interval, wilcoxon
    from seesr_pl.evaluation.tables import ScoreTable, format_number, latex, markdown, score_table, terminal

__all__ = [
    "Bicubic",
    "Chart",
    "Comparison",
    "FIDELITY",
    "FolderBenchmark",
    "GaussianBlur",
    "ImageMetric",
    "Images",
    "Interval",
    "Method",
    "Metrics",
    "NonLocalMeans",
    "Pair",
    "RRDBNetMethod",
    "Restored",
    "Result",
    "ScoreTable",
    "Section",
    "SeeSRMethod",
    "Table",
    "compare",
    "format_number",
    "image_metrics",
    "latex",
    "load_result",
    "markdown",
    "mean_interval",
    "paired_interval",
    "psnr_rgb",
    "psnr_y",
    "restore",
    "score",
    "score_all",
    "score_table",
    "ssim_y",
    "terminal",
    "wilcoxon",
    "write_report",
    "write_result",
]
_NAMES = {
    "benchmark": ("FolderBenchmark", "Pair"),
    "judge": ("Comparison", "Restored", "Result", "compare", "load_result", "restore", "score_all", "write_result"),
    "methods": ("Bicubic", "GaussianBlur", "Images", "Method", "NonLocalMeans"),
    "metrics": ("FIDELITY", "ImageMetric", "Metrics", "image_metrics", "psnr_rgb", "psnr_y", "score", "ssim_y"),
    "report": ("Chart", "Section", "Table", "write_report"),
    "rrdbnet": ("RRDBNetMethod",),
    "seesr": ("SeeSRMethod",),
    "statistics": ("Interval", "mean_interval", "paired_interval", "wilcoxon"),
    "tables": ("ScoreTable", "format_number", "latex", "markdown", "score_table", "terminal"),
}
__getattr__ = attributes(__name__, {name: module for module, names in _NAMES.items() for name in names})
