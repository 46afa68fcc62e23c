"""Every command in every document is one that the program takes; every link and path leads somewhere."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import typer
from hydra import compose, initialize_config_dir

from seesr_pl import launch
from seesr_pl.cli import commands

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("data/*.md")])
STARTS = ("seesr ", "python train.py ", "python evaluate.py ", "seesr-train ", "seesr-evaluate ")
# The changelog names commands of earlier days.
DOCUMENTS.remove(ROOT / "CHANGELOG.md")
CODE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def documented(*, inline):
    """The commands of all code blocks, or those within the text; "..." stands for more words."""
    for document in DOCUMENTS:
        text = document.read_text().replace("\\\n", " ")
        lines = [line.strip() for block in CODE.findall(text) for line in block.splitlines()]
        if inline:
            lines = re.findall(r"`([^`\n]+)`", CODE.sub("", text))
        for line in dict.fromkeys(lines):
            is_row = line.startswith("seesr  ")  # of a table that is printed, where seesr is a method
            if line.startswith(STARTS) and not is_row and "..." not in line and "KEY=" not in line:
                yield pytest.param(line, id=f"{document.name}: {line[:60]}")


def found(words):
    """The command that the first of `words` name, and the words that are left."""
    command = typer.main.get_command(commands)
    while words and hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"{name} is none of {', '.join(command.commands)}"
        command = command.commands[name]
    return command, words


def leaves(command, name=()):
    """Each command of the program with the words that name it."""
    if not hasattr(command, "commands"):
        yield " ".join(name), command
    for word, child in getattr(command, "commands", {}).items():
        yield from leaves(child, (*name, word))


@pytest.mark.parametrize(("name", "command"), leaves(typer.main.get_command(commands)))
def test_the_help_of_a_command_ends_with_an_example_of_one_line_that_it_takes(name, command):
    label, _, example = (command.epilog or "").partition(": ")
    assert (label, example.startswith(f"seesr {name} ")) == ("Example", True)
    assert len(f"  {label}: {example}") <= 80
    named, rest = found(shlex.split(example)[1:])
    assert named.make_context(named.name, rest)


def test_the_program_lists_every_command_in_the_order_of_use():
    command = typer.main.get_command(commands)
    listed = command.list_commands(None)
    assert sorted(listed) == sorted(command.commands)
    assert listed[:3] == ["doctor", "weights", "restore"]


def test_the_documents_have_commands():
    assert len(list(documented(inline=False))) > 20


@pytest.mark.parametrize("line", documented(inline=False))
def test_a_command_of_a_code_block_is_one_that_the_program_takes(line):
    words = shlex.split(re.split(r"\s{2,}\(|;| && | \| ", line)[0], comments=True)
    if words[0] == "seesr":
        command, rest = found(words[1:])
        assert command.make_context(command.name, rest, resilient_parsing="--help" in rest)
        return
    is_script = words[0] == "python"
    name = "evaluate" if "evaluate" in words[is_script] else "train"
    try:
        overrides = launch.overrides([w for w in words[1 + is_script :] if w[0] != "-"], ROOT / "conf", name)
    except ValueError as error:
        if "needs the package" in str(error):
            pytest.skip(str(error))
        raise
    if not {"-m", "--multirun", "--help"} & set(words):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            assert compose(name, overrides)


@pytest.mark.parametrize("line", documented(inline=True))
def test_the_options_that_a_text_names_exist(line):
    words = line.split()
    if words[0] == "seesr":
        command, rest = found(words[1:])
        known = {name for option in getattr(command, "params", []) for name in (*option.opts, *option.secondary_opts)}
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known | {"--help"}


def anchors(document):
    """The names of the headings of a page, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_of_a_document_lead_to_files_and_headings_that_exist(document):
    text = CODE.sub("", document.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("http"):
            name, _, anchor = target.partition("#")
            page = document.parent / name if name else document
            assert page.exists(), f"{target} of {document.name}"
            assert not anchor or anchor in anchors(page), f"{target} of {document.name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_of_the_repository_that_a_document_names_exist(document):
    kinds = r"`((?:docs|data|benchmarks|conf|tests|scripts)/[\w./-]+\.(?:md|py|yaml|toml))"
    names = set(re.findall(kinds, document.read_text())) - {
        "conf/data/mine.yaml",
        "conf/degradation/film.yaml",
    }  # the reader's own
    assert [name for name in names if not any((place / name).exists() for place in (ROOT, ROOT / "src/seesr_pl"))] == []


def test_the_site_has_every_page_of_docs():
    # Not `yaml.safe_load`: the file names a Python function.
    listed = re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text())
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.slow
def test_the_recipes_of_contributing_do_what_they_say(tmp_path):
    pytest.importorskip("skimage")
    for name in ("src", "conf", "train.py", "evaluate.py"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE)
    texts = {language: [textwrap.dedent(text) for kind, text in blocks if kind == language] for language, _ in blocks}
    (metric, film), (config,), (_, *typed) = texts["python"], texts["yaml"], texts[""]
    function, row = metric.split("MAE_RGB =", 1)
    path = tmp_path / "src" / "seesr_pl" / "evaluation" / "metrics.py"
    source = path.read_text().replace("PSNR_Y = ImageMetric", f"{function}PSNR_Y = ImageMetric", 1)
    path.write_text(re.sub(r"^NATIVE = .*$", lambda _: f"MAE_RGB ={row}", source, flags=re.MULTILINE))
    (tmp_path / "film.py").write_text(film)
    (tmp_path / "conf" / "degradation" / "film.yaml").write_text(config)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"}
    starts = {"python": [sys.executable], "seesr": [sys.executable, "-c", "from seesr_pl.cli import app; app()"]}
    said = ""
    for line in "".join(typed).splitlines():
        program, *words = shlex.split(line)
        command = [*starts[program], *words]
        said += subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout
    assert "mae_rgb" in said
    assert "film_validation/summary.json" in said


def test_the_table_of_scaling_is_the_output_of_its_script(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["scaling.py"])
    runpy.run_path(str(ROOT / "benchmarks" / "scaling.py"), run_name="__main__")
    told = [line for line in capsys.readouterr().out.splitlines() if line]
    document = (ROOT / "docs" / "scaling.md").read_text()
    table = [line for line in told if line.startswith("|")]
    assert "\n".join(line.rstrip() for line in table) in document
    assert all(line in " ".join(document.split()) for line in told if not line.startswith("|"))
