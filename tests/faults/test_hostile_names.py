"""Names from strangers are text wherever they are shown, and lead nowhere."""

import html.parser
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image
from places import ROOT
from typer.testing import CliRunner

from seesr_pl.cli import commands
from seesr_pl.config import folder_name
from seesr_pl.evaluation.benchmark import Pair
from seesr_pl.evaluation.metrics import image_metrics
from seesr_pl.evaluation.report import Section, write_report
from seesr_pl.evaluation.results import Result
from seesr_pl.evaluation.statistics import metric_intervals
from seesr_pl.evaluation.tables import latex, markdown, score_table, terminal
from seesr_pl.imaging.io import write_image
from seesr_pl.text import in_latex, in_markdown, say, shown

HOSTILE = [
    "<!--<script>.png",
    "</script><script>alert(1)</script>.png",
    "<img src=x onerror=alert(1)>.png",
    "[bold]1.png",
    "[/blue].png",
    "[red]x[/]\\.png",
    ":smile:.png",
    "a\nb.png",
    "a\rb.png",
    "\x1b[2J\x1b[31mred.png",
    "\x9b31mred.png",
    "\u202egnp.exe",
    "a\u2028b.png",
    "{{ 7 * 7 }}.png",
    "a|b\\.png",
    "\\input{x}$&%#_{}~^.png",
    "*a* _b_ `c` [d](e).png",
    os.fsdecode(b"\xff\xfe.png"),
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_printed_as_it_is_in_one_line_without_commands(name, capsys):
    say(name, label="left out")
    assert capsys.readouterr().out == f"left out {shown(name)}\n"
    assert all(character.isprintable() for character in shown(name))


def test_what_can_be_seen_is_left_as_it_is():
    for name in ("photo 1 (2).jpg", "\u5199\u771f\u3001\u00e9t\u00e9\U0001f600.png", "a\u0301", "[x]{y}"):
        assert shown(name) == name
    assert shown("a\nb", lines=True) == "a\nb"
    assert shown("a\x1b\nb\x07", lines=True) == "a\\x1b\nb\\x07"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_cell_of_markdown_holds_the_name(name):
    table = f"| head | two |\n| --- | --- |\n| {in_markdown(name)} | x |\n"
    tokens = MarkdownIt("commonmark").enable("table").parse(table)
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 4
    assert {child.type for child in cells[2].children} == {"text"}
    assert "".join(child.content for child in cells[2].children) == shown(name).strip()


def test_a_cell_of_latex_holds_no_command():
    assert in_latex("\\input{x}$&%#_~^<") == (
        r"\textbackslash{}input\{x\}\$\&\%\#\_\textasciitilde{}\textasciicircum{}\textless{}"
    )


def result_of(name, folder):
    values = {name: {"psnr_y": 20.0}, "sound": {"psnr_y": 30.0}}
    image = folder / "image.png"
    write_image(image, np.zeros((8, 8, 3), np.uint8))
    groups = {name: name, "sound": "sound"}
    paths = dict.fromkeys(values, image)
    return Result(name, values, metric_intervals(values, groups), paths, groups, dict.fromkeys(values, 1.0)), image


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.scripts, self.inside = [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


@pytest.mark.parametrize("name", HOSTILE)
def test_a_report_holds_names_as_text(name, tmp_path):
    result, image = result_of(name, tmp_path)
    metrics = image_metrics(["psnr_y"], has_reference=True).available
    pairs = [Pair(each, each, image, image) for each in result.values]
    section = Section(name, name, images={name: np.zeros((8, 8, 3), np.uint8)})
    path = tmp_path / "report.html"
    write_report(
        path, title=name, pairs=pairs, results=[result], metrics=metrics, facts={name: name}, sections=[section]
    )
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [{"type": "application/json", "id": "data"}, {}]
    assert not [tag for tag, attrs in page.tags if any(key.startswith("on") for key in attrs)]
    # A parser of HTML that reads "<!--<script" in a script ends it at another place than this one does.
    assert "<" not in page.scripts[0]
    shown_names = {each["name"] for each in json.loads(page.scripts[0])["images"]}
    assert shown_names == {shown(name), "sound"}


@pytest.mark.parametrize("name", HOSTILE)
def test_tables_of_scores_hold_names_as_text(name, tmp_path):
    from rich.console import Console

    result, _ = result_of(name, tmp_path)
    table = score_table([result], image_metrics(["psnr_y"], has_reference=True).available)
    assert len(markdown(table).splitlines()) == 3
    assert len(latex(table).splitlines()) == 7
    console = Console(file=io.StringIO(), width=200)
    console.print(terminal(table, title=name))
    printed = console.file.getvalue()
    assert printed.count(shown(name)) == 2


@pytest.mark.parametrize("name", ["[bold]1.png", "a\nb.png", "\x1b[31mred.png"])
def test_a_command_says_which_file_it_left_out(name, tmp_path):
    source = tmp_path / "in[" / "blue]"  # together [/blue], which ends no style
    source.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(source / "sound.png")
    (source / f"._{name}").write_bytes(b"x")
    ram = ROOT / "src/seesr_pl/tiny/assets/tiny_ram"
    done = CliRunner().invoke(commands, ["tag", str(source), "--out", str(tmp_path / "out"), "--ram", str(ram)])
    assert f"left out {source}/._{shown(name)}: macOS" in done.output
    assert done.exit_code == 0


BAD_NAMES = [
    "../../escaped",
    "..",
    "a/../../b",
    "/tmp/escaped",
    "~/escaped",
    "~",
    "",
    ".",
    "a//b",
    "a/",
    "a\0b",
    "a\nb",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_run_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(ValueError, match="is no name of a folder below"):
        folder_name(name)


@pytest.mark.parametrize("name", ["tiny", "exp/a", "2026_11_25", "a..b", "module.lora_rank=2", "RealSR(V3)", 7])
def test_an_ordinary_run_name_is_the_folder(name):
    assert folder_name(name) == str(name)


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [[], ["-m"]], ids=["run", "sweep"])
@pytest.mark.parametrize("script", ["train.py experiment=tiny_dape", "evaluate.py method=bicubic benchmark=folder"])
def test_a_command_writes_nothing_outside_of_its_outputs(script, sweep, tmp_path):
    outputs = tmp_path / "a" / "b"
    command, *chosen = script.split()
    words = [command, *sweep, *chosen, "run_name=../../escaped", f"paths.outputs={outputs}"]
    words += ["benchmark.root=x"] if "evaluate" in script else []
    paths = {"PYTHONPATH": str(ROOT / "src"), **os.environ}
    done = subprocess.run(
        [sys.executable, str(ROOT / words[0]), *words[1:]], capture_output=True, text=True, env=paths, cwd=tmp_path
    )
    assert done.returncode != 0
    assert "error: run_name='../../escaped' is no name of a folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "escaped").exists()
