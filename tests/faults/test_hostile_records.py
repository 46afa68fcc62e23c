"""Configs, tables and records of strangers: few bytes do not fill the memory, and what is no record is named."""

import io
import json
import zipfile

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from places import ROOT

from seesr_pl import limits
from seesr_pl.config import plain
from seesr_pl.data.shards import tag_text
from seesr_pl.evaluation.benchmark import FolderBenchmark
from seesr_pl.evaluation.niqe import NIQE
from seesr_pl.evaluation.results import load_result
from seesr_pl.evaluation.study import tally
from seesr_pl.files import Record
from seesr_pl.models.ram import RAM
from seesr_pl.models.ram_lists import read_tags
from seesr_pl.runs import RunFolder
from seesr_pl.trust import read_config

LEVELS = 40
DEEP = "[" * 100_000
BOMBS = {
    "aliases of lists": "a0: &a0 [1, 1]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(LEVELS)),
    "a merge": "a: &a {b: 1}\nc: {<<: *a}\n",
    "texts that double": "a0: ha\n" + "".join(f"a{n + 1}: '${{a{n}}}${{a{n}}}'\n" for n in range(LEVELS)),
    "nodes that double": "a0: [1]\n" + "".join(f"a{n + 1}: ['${{a{n}}}', '${{a{n}}}']\n" for n in range(LEVELS)),
    "relative references": "b:\n  a0: ha\n" + "".join(f"  a{n + 1}: '${{.a{n}}}${{.a{n}}}'\n" for n in range(LEVELS)),
    "arguments of resolvers": "a0: ha\n" + "".join(f"a{n + 1}: '${{x:${{a{n}}},${{a{n}}}}}'\n" for n in range(LEVELS)),
    "blanks in references": "a0: ha\n" + "".join(f"a{n + 1}: '${{ a{n} }}${{a{n}\t}}'\n" for n in range(LEVELS)),
    "commas in names": "a,0: ha\n" + "".join(f"a,{n + 1}: '${{a,{n}}}${{a,{n}}}'\n" for n in range(LEVELS)),
    "indices with a sign": "b:\n- ha\n" + "".join(f"- '${{.+{n}}}${{.+{n}}}'\n" for n in range(LEVELS)),
    "paths through references": "a0: {k: ha}\ni0: ${a0}\n"
    + "".join(f"a{n}: {{k: '${{i{n - 1}.k}}${{i{n - 1}.k}}'}}\ni{n}: ${{a{n}}}\n" for n in range(1, LEVELS)),
    **{
        f"the resolver {name}": f"a0: [1]\na1: ['${{{name}:a0}}', '${{ {name} : a0}}']\n"
        for name in ("oc.select", "oc.deprecated", "oc.dict.values", "oc.dict.keys", "oc.create", "oc.decode")
    },
    "a name that is made up": "a0: ha\nb: '${a${c}}'\nc: 0\n",
    "depth": DEEP,
    "depth of blocks": "- " * 100_000,
    "bytes": "a: " + "x" * (2 << 20),
    "a list": "[1, 2]",
    "no YAML": "a: [1",
    "no text": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_recorded_config_that_would_fill_the_memory_is_refused(name, tmp_path):
    content = BOMBS[name]
    path = tmp_path / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"config.yaml (holds|is no|has more than)") as error:
        read_config(path)
    assert len(str(error.value)) < 2000


def test_what_a_run_records_is_read_as_it_is(tmp_path):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=["experiment=tiny_seesr"])
    run = RunFolder(tmp_path)
    run.record(cfg)
    assert plain(run.recorded()) == plain(cfg)


def test_a_reference_counts_as_often_as_it_is_made(tmp_path):
    (tmp_path / "few.yaml").write_text("a: ha\nb: '${a}${a}'\nc: {d: '${b}', e: ['${b}', '${.0}'], f: '${..b}'}\n")
    assert OmegaConf.to_container(read_config(tmp_path / "few.yaml"))["b"] == "${a}${a}"


def test_references_of_every_form_are_resolved(tmp_path, monkeypatch):
    monkeypatch.setenv("SEESR_TEST", "set")
    (tmp_path / "forms.yaml").write_text(
        "a: {b: [x]}\nc: ${a}\nd: '${ c.b[0] }'\ne: '${oc.env:SEESR_TEST}${oc.env:SEESR_NONE,${c.b.0}}'\n"
    )
    cfg = read_config(tmp_path / "forms.yaml")
    assert (cfg.d, cfg.e) == ("x", "setx")


def readers(folder):
    """Each reader of a record, by the record's name; all are given a file of that name in `folder`."""
    return {
        "summary.json": lambda: load_result(folder, {"0": "0"}),
        "scores.csv": lambda: load_result(folder, {"0": "0"}),
        "key.json": lambda: tally(folder / "key.json", []),
        "config.json": lambda: RAM.from_pretrained(folder),
        "severity.csv": lambda: FolderBenchmark(folder, name="x", lq="lq", hq=None).kinds(),
        "tags.txt": lambda: read_tags(folder / "tags.txt"),
    }


CONTENTS = {
    "deep": DEEP.encode(),
    "other": b"{}",
    "bytes": b"\xff\xfe" * 9,
    "field": b"image\n" + b"x" * (1 << 18),
    "large": b"",
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", readers(None))
def test_what_is_no_record_is_refused_by_its_name(name, content, tmp_path, monkeypatch):
    if content == "other" and name == "tags.txt":
        pytest.skip("any line is a tag")
    (tmp_path / "summary.json").write_text('{"method": "x", "seconds": {}}')
    (tmp_path / "scores.csv").write_text("image,psnr_y\n0,30\n")
    (tmp_path / name).write_bytes(CONTENTS[content] or b" " * (limits.MAX_RECORD_BYTES + 1))
    if name == "tags.txt" and content in ("deep", "field"):
        (tmp_path / name).write_bytes(b"a\na\n")
    with pytest.raises(ValueError, match=name.replace(".", r"\.")) as error:
        readers(tmp_path)[name]()
    assert len(str(error.value)) < 1000
    assert ("the limit of a text" in str(error.value)) == (content == "large")


def test_a_record_nested_too_deep_counts_as_none(tmp_path):
    (tmp_path / "a.json").write_text(DEEP)
    assert Record.beside(tmp_path / "a.png").read() == {}


def test_niqe_parameters_that_unpack_to_gigabytes_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "niqe.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mu_pris_param.npy", header.getvalue())
    with pytest.raises(ValueError, match=r"niqe.npz is not niqe_pris_params.npz"):
        NIQE.from_file(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mu_pris_param.npy", bytes(2 << 20))
    monkeypatch.setattr(limits, "MAX_BYTES", 1 << 20)
    with pytest.raises(ValueError, match="limit is 1 MiB"):
        NIQE.from_file(path)


def test_tags_that_go_on_and_on_are_refused():
    assert tag_text(b"wood, stone") == "wood, stone"
    with pytest.raises(ValueError, match=r"its tags have 65,537 bytes; the limit is 65,536"):
        tag_text(b"x" * ((1 << 16) + 1))


def test_a_table_keeps_what_it_holds(tmp_path):
    (tmp_path / "a.csv").write_text('\ufeffname,kind\n"a,b","x\ny"\nc\n', encoding="utf-8")
    assert limits.read_rows(tmp_path / "a.csv", "name") == [{"name": "a,b", "kind": "x\ny"}, {"name": "c", "kind": ""}]
    (tmp_path / "a.json").write_text(json.dumps({"a": [1]}))
    assert limits.read_json(tmp_path / "a.json", "a") == {"a": [1]}
