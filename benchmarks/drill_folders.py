"""Drills with real folders: the inputs of the folder `cases` where it is there; bad inputs through real processes."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

import seesr_pl.tiny

ROOT = Path(__file__).resolve().parents[1]
CASES = Path(os.environ.get("SEESR_CASES", ROOT.parent / "shared" / "cases"))
RAM = Path(seesr_pl.tiny.__file__).parent / "assets" / "tiny_ram"
SEESR = str(Path(sys.executable).with_name("seesr"))
Result = tuple[str, bool]
TRAIN = [
    "module.learning_rate=-1", "module.warmup_steps=-1", "module.prompt_drop_probability=1.5", "trainer.max_steps=0",
    "trainer.max_steps=-5", "trainer.devices=0", "trainer.num_nodes=0", "trainer.log_every_n_steps=0",
    "trainer.gradient_clip_val=-1", "trainer.accelerator=gpux", "data.num_workers=-1", "data.global_batch_size=0",
    "data.crop_size=0", "data.prefetch_factor=0", "data.max_bad_fraction=2", "data.crop=center",
    "callbacks.last.every_n_steps=0", "callbacks.gradient_norm=5", "resume=perhaps", "seed=-1", "seed=abc",
    "modul.learning_rate=1", "logger=tensorbord", "paths.outputs=/proc/x",
]  # fmt: skip
EVALUATE = ["benchmark.scale=0", "benchmark.max_images=0", "seed=-1", "metrics=[psnr]", "stages=[restor]", "dtype=int8",
            "device=cuda:99", "compare=[/nowhere]"]  # fmt: skip
COMMANDS = [
    "shards build a.png", "shards build a.png out --shard-size 0", "shards build nowhere out",
    "shards show nowhere.tar --out s.png --num 0", "shards verify nowhere.tar", "shards index a.png",
    "shards verify http://127.0.0.1:1/x.tar", "restore a.png --out o --ckpt nowhere",
    "restore a.png --out a.png --ckpt nowhere", "restore a.png --out o --ckpt nowhere --steps 0",
    f"tag a.png --out o --ram {RAM} --device cuda:99", f"tag nowhere --out o --ram {RAM}",
]  # fmt: skip


def drills(quick: bool) -> list[tuple[str, Callable[[], Result]]]:
    """Return the drills of this file; `quick` takes every fourth bad input."""
    step = 4 if quick else 1
    found: list[tuple[str, Callable[[], Result]]] = [("folders: bad inputs", lambda: _bad_inputs(step))]
    if CASES.is_dir():
        found += [
            ("folders: images of the cases", _images),
            ("folders: shards of the cases", _shards),
            ("folders: a turned pair", _pair),
            ("folders: shards of another origin", _foreign),
        ]
    return found


def _run(words: list[str], folder: Path) -> tuple[int, str]:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def _bad_inputs(step: int) -> Result:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.new("RGB", (16, 12)).save(folder / "a.png")
        evaluate = [sys.executable, str(ROOT / "evaluate.py"), "method=bicubic", "benchmark=folder", "benchmark.root=."]
        commands = [
            *([sys.executable, str(ROOT / "train.py"), "experiment=tiny_seesr", word] for word in TRAIN),
            *([*evaluate, word] for word in EVALUATE),
            *([SEESR, *line.split()] for line in COMMANDS),
        ][::step]
        unclear = []
        for words in commands:
            code, output = _run(words, folder)
            if code == 0 or "Traceback" in output or "error: " not in output:
                unclear.append(words[-1])
    return f"{len(commands) - len(unclear)} of {len(commands)} clear errors {' '.join(unclear)}", not unclear


def _images() -> Result:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for path in CASES.glob("*.png"):
            shutil.copy(path, folder / "in")
        shutil.copy(CASES / "appledouble.bin", folder / "in" / "._photo.jpg")
        sound = len(list(CASES.glob("*.png")))
        built, report = _run([SEESR, "shards", "build", "in", "out"], folder)
        tagged, tags = _run([SEESR, "tag", "in", "--out", "tags", "--ram", str(RAM)], folder)
    passed = built == tagged == 0 and f"{sound} images in" in report and f"{sound} images tagged" in tags
    return f"{sound} images built and tagged, AppleDouble listed: {'left out' in tags}", passed and "left out" in tags


def _shards() -> Result:
    said = {"mixed-000003": "link", "dots-7": "22.05.png", "sep-000000": ".txt", "latin-000000": "a.txt"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tars = [Path(shutil.copy(path, folder)).name for path in sorted(CASES.glob("*.tar"))]
        silent = [
            tar for tar in tars if said.get(Path(tar).stem, "") not in _run([SEESR, "shards", "index", tar], folder)[1]
        ]
        verified, _ = _run([SEESR, "shards", "verify", *tars], folder)
        tagged, _ = _run([SEESR, "tag", *tars, "--out", "tags", "--ram", str(RAM)], folder)
        left = list((folder / "tags").glob("*.tmp"))
    text = f"{len(tars)} shards indexed, verified and tagged; nothing said of {silent or 'none'}"
    return text, not silent and verified == tagged == 0 and not left


def _pair() -> Result:
    words = ["method=bicubic", "benchmark=folder", f"benchmark.root={CASES / 'exif_pair'}", "stages=[restore,score]"]
    with tempfile.TemporaryDirectory() as name:
        code, output = _run([sys.executable, str(ROOT / "evaluate.py"), *words], Path(name))
    return f"exit code {code}" if code == 0 else output[-200:], code == 0


def _foreign() -> Result:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "coco").mkdir()
        for number in range(3):
            shutil.copy(CASES / "dup-000000.tar", folder / "coco" / f"coco-00000{number}.tar")
        Image.new("RGB", (16, 12)).save(folder / "a.png")
        code, _ = _run([SEESR, "shards", "build", "a.png", "coco"], folder)
        kept = len(list((folder / "coco").iterdir()))
        twice = [_run([SEESR, "shards", "build", "a.png", "out.tar"], folder)[0] for _ in range(2)]
    return f"refused with {code}, {kept} of 3 kept; x.tar twice: {twice}", code != 0 and kept == 3 and twice == [0, 0]
