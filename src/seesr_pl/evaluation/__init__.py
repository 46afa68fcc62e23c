"""How good restored images are: metrics, methods, benchmarks, statistics, report.

Names are imported when first used: `method=bicubic` loads neither the networks' libraries nor matplotlib.
"""

from typing import TYPE_CHECKING

from seesr_pl.lazy import attributes

if TYPE_CHECKING:
    from seesr_pl.evaluation.benchmark import FolderBenchmark, Pair
    from seesr_pl.evaluation.coco import CocoBenchmark
    from seesr_pl.evaluation.combined import Judged, combine
    from seesr_pl.evaluation.judge import judge_method, judge_tags
    from seesr_pl.evaluation.making import MadeBenchmark
    from seesr_pl.evaluation.meaning import judge_semantics
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
    from seesr_pl.evaluation.networks import LatentDiffusion, SpandrelMethod
    from seesr_pl.evaluation.recognition import networks_in
    from seesr_pl.evaluation.report import Chart, Section, Table, write_report
    from seesr_pl.evaluation.restoring import Restored, restore
    from seesr_pl.evaluation.results import Comparison, Result, compare, load_result, write_result
    from seesr_pl.evaluation.rrdbnet import RRDBNetMethod
    from seesr_pl.evaluation.scoring import score_all
    from seesr_pl.evaluation.seesr import ReleasedSeeSR, SeeSRMethod
    from seesr_pl.evaluation.statistics import Interval, mean_interval, paired_interval, sign_flip_test
    from seesr_pl.evaluation.study import Tally, make_study, tally
    from seesr_pl.evaluation.tables import (
        ScoreTable,
        Shown,
        format_number,
        latex,
        markdown,
        score_table,
        show,
        terminal,
    )

__all__ = [
    "Bicubic",
    "Chart",
    "CocoBenchmark",
    "Comparison",
    "FIDELITY",
    "FolderBenchmark",
    "GaussianBlur",
    "ImageMetric",
    "Images",
    "Interval",
    "Judged",
    "LatentDiffusion",
    "MadeBenchmark",
    "Method",
    "Metrics",
    "NonLocalMeans",
    "Pair",
    "RRDBNetMethod",
    "ReleasedSeeSR",
    "Restored",
    "Result",
    "ScoreTable",
    "Section",
    "SeeSRMethod",
    "Shown",
    "SpandrelMethod",
    "Table",
    "Tally",
    "combine",
    "compare",
    "format_number",
    "image_metrics",
    "judge_method",
    "judge_semantics",
    "judge_tags",
    "latex",
    "load_result",
    "make_study",
    "markdown",
    "mean_interval",
    "networks_in",
    "paired_interval",
    "psnr_rgb",
    "psnr_y",
    "restore",
    "score",
    "score_all",
    "score_table",
    "show",
    "sign_flip_test",
    "ssim_y",
    "tally",
    "terminal",
    "write_report",
    "write_result",
]
_NAMES = {
    "benchmark": ("FolderBenchmark", "Pair"),
    "coco": ("CocoBenchmark",),
    "combined": ("Judged", "combine"),
    "judge": ("judge_method", "judge_tags"),
    "making": ("MadeBenchmark",),
    "meaning": ("judge_semantics",),
    "methods": ("Bicubic", "GaussianBlur", "Images", "Method", "NonLocalMeans"),
    "metrics": ("FIDELITY", "ImageMetric", "Metrics", "image_metrics", "psnr_rgb", "psnr_y", "score", "ssim_y"),
    "networks": ("LatentDiffusion", "SpandrelMethod"),
    "recognition": ("networks_in",),
    "report": ("Chart", "Section", "Table", "write_report"),
    "restoring": ("Restored", "restore"),
    "results": ("Comparison", "Result", "compare", "load_result", "write_result"),
    "rrdbnet": ("RRDBNetMethod",),
    "scoring": ("score_all",),
    "seesr": ("ReleasedSeeSR", "SeeSRMethod"),
    "statistics": ("Interval", "mean_interval", "paired_interval", "sign_flip_test"),
    "study": ("Tally", "make_study", "tally"),
    "tables": ("ScoreTable", "Shown", "format_number", "latex", "markdown", "score_table", "show", "terminal"),
}
__getattr__ = attributes(__name__, {name: module for module, names in _NAMES.items() for name in names})
