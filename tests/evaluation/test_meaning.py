"""Section 4.3 from a COCO-style folder to its table, by tiny networks of the real classes."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import recognizers

from seesr_pl.degradation import BicubicDegradation
from seesr_pl.evaluation import CocoBenchmark, judge_semantics
from seesr_pl.evaluation.coco import Annotations
from seesr_pl.evaluation.meaning import Measured
from seesr_pl.evaluation.recognition import Detection, Networks, Segments, networks_in
from seesr_pl.imaging.io import read_rgb, write_image


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return recognizers.save_set(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return networks_in(recognizers.save_detector(folder / "detector"), recognizers.save_segmenter(folder / "segmenter"))


def _benchmark(coco, root, **options):
    files = {"instances": f"{coco}/instances.json", "panoptic": f"{coco}/panoptic.json"}
    given = {"images": f"{coco}/images", "degradation": BicubicDegradation(), "size": 96, **files, **options}
    return CocoBenchmark(str(root), **given)


def test_the_networks_see_in_pixels_of_the_original_image(networks, coco):
    image = read_rgb(coco / "images" / "000.jpg")
    boxes = networks.detector(image, (64, 96), count=5)
    x, y, width, height = boxes[0].box
    outputs = networks.detector._outputs(image)
    best = outputs.logits.softmax(-1)[0, :, :-1].max(-1).values.argmax()
    center = [(x + width / 2) / 96, (y + height / 2) / 64, width / 96, height / 64]
    assert center == pytest.approx(outputs.pred_boxes[0, best].tolist(), abs=1e-5)
    assert len(boxes) == 5
    assert [each.score for each in boxes] == sorted((each.score for each in boxes), reverse=True)
    segments = networks.segmenter(image, (30, 40), stuff=[2])
    assert segments.ids.shape == segments.labels.shape == (30, 40)
    assert set(np.unique(segments.ids)) <= {-1, *segments.label_of}
    assert segments.label_of
    assert all(each.mask.shape == (30, 40) and each.mask.dtype == bool for each in segments.objects)


def test_a_set_is_judged_by_networks_once_and_gives_rows_for_hq_and_each_method(networks, coco, tmp_path):
    benchmark = _benchmark(coco, tmp_path / "made")
    methods = {"gray": tmp_path / "gray", "same": tmp_path / "same"}
    for pair in benchmark.pairs():
        for method, pixels in (("gray", np.full((64, 96, 3), 128, np.uint8)), ("same", read_rgb(pair.hq))):
            methods[method].mkdir(exist_ok=True)
            write_image(methods[method] / f"{pair.name}.png", pixels)
    out = tmp_path / "out"
    shown = judge_semantics(benchmark, methods, out, networks)
    rows = json.loads((out / "semantics.json").read_text())["rows"]
    metrics = [row["metric"] for row in rows if row["method"] == "HQ"]
    assert metrics == [*(["ap", "ap50", "mask_ap", "mask_ap50"] if find_spec("faster_coco_eval") else []), "pq", "miou"]
    assert [row["method"] for row in rows[:: len(metrics)]] == ["HQ", "gray", "same"]
    found = {(row["method"], row["metric"]): row for row in rows}
    assert found["same", "miou"]["value"] == found["HQ", "miou"]["value"] > 0
    assert found["same", "miou"]["minus_hq"] == 0
    assert found["gray", "pq"]["value"] != found["HQ", "pq"]["value"]
    assert len(shown.sentences) == 2 * len(metrics)
    # HQ and the method "same" have the same pixels, and are looked at once; all gray images are one.
    lines = (out / "seen.jsonl").read_text().splitlines()
    assert len(lines) == 3 + 1
    networks_that_fail = Networks(*(_Unused(each.labels, each.version) for each in networks))
    again = judge_semantics(benchmark, methods, tmp_path / "again", networks_that_fail, others=[out])
    assert json.loads((tmp_path / "again" / "semantics.json").read_text())["rows"] == rows
    assert again.sentences == shown.sentences
    # A kill cut the last line: what is seen again is not joined to it.
    (out / "seen.jsonl").write_text("\n".join([*lines[:-1], lines[-1][:20]]))
    judge_semantics(benchmark, methods, out, networks)
    assert (out / "seen.jsonl").read_text().splitlines() == lines


class _Unused:
    """A network that may not be asked."""

    def __init__(self, labels, version):
        self.labels, self.version = labels, version

    def __call__(self, *args, **options):
        raise AssertionError("looked at an image once more")


class _Oracle(_Unused):
    """A detector and segmenter that finds in each image what its annotations say."""

    def __init__(self, benchmark):
        super().__init__(recognizers.LABELS, "oracle")
        self.annotations = Annotations.read(benchmark)
        self.names = iter(pair.name for pair in benchmark.pairs())

    def __call__(self, image, size, *, stuff=None, count=100):
        image_id = self.annotations.ids[next(self.names)]
        objects = [each for each in self.annotations.instances["annotations"] if each["image_id"] == image_id]
        label = {1: 0, 3: 1, 7: 2}
        if stuff is None:
            return [Detection(label[each["category_id"]], 0.9, tuple(each["bbox"])) for each in objects]
        categories, ids = self.annotations.category_map(image_id)
        masks = [Detection(label[c], 0.9, mask=categories == c) for c in recognizers.THINGS]
        of_id = {int(ids[categories == c][0]): label[c] for c in label}
        return Segments(ids, of_id, np.vectorize(label.get)(categories), masks)


def test_networks_that_see_what_the_annotations_say_reach_100_percent(coco, tmp_path):
    benchmark = _benchmark(coco, tmp_path / "made")
    folder = benchmark.root / "hq"
    benchmark.pairs()
    networks = Networks(_Oracle(benchmark), _Oracle(benchmark))
    judge_semantics(benchmark, {"method": folder}, tmp_path / "out", networks)
    rows = json.loads((tmp_path / "out" / "semantics.json").read_text())["rows"]
    assert [row["value"] for row in rows] == [pytest.approx(100)] * len(rows)


def test_a_difference_is_paired_over_the_same_resamples():
    generator = np.random.default_rng(0)
    shared = generator.normal(50, 5, 201)
    hq, method = Measured("HQ", {"ap": shared}), Measured("method", {"ap": shared - 3 + generator.normal(0, 0.1, 201)})
    alone, paired = method.interval("ap"), method.interval("ap", hq)
    assert alone.high - alone.low > 15
    assert paired.high - paired.low < 1
    assert paired.low < -3 < paired.high


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images.pop(), "does not know 1 of 3 images: 002"),
        (lambda images: images[0].update(width=64, height=96), "1 of 3 images in .* have another size .*: 000"),
    ],
)
def test_annotations_that_do_not_fit_the_images_are_refused(coco, tmp_path, change, message):
    content = json.loads((coco / "instances.json").read_text())
    change(content["images"])
    (tmp_path / "instances.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        Annotations.read(_benchmark(coco, tmp_path / "made", instances=f"{tmp_path}/instances.json"))


def test_a_folder_without_a_network_or_of_another_kind_is_named(coco, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        networks_in(tmp_path / "nowhere", None)
    segmenter = recognizers.save_segmenter(tmp_path / "segmenter")
    with pytest.raises(ValueError, match="segmenter"):
        networks_in(segmenter, None)
    with pytest.raises(ValueError, match=r"needs detector=FOLDER or segmenter=FOLDER"):
        networks_in(None, None)
