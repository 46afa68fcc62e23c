"""Run folders and checkpoints from strangers run no code; what is honest still loads."""

import os
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from places import ROOT

from seesr_pl import trust
from seesr_pl.checkpoints.convert import convert_dape
from seesr_pl.config import plain
from seesr_pl.runs import RunFolder, load_module
from seesr_pl.trust import build


class Runs:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def touching(witness: Path) -> dict:
    return {"_target_": "os.mkdir", "_args_": [str(witness)]}


HONEST = {"_target_": "seesr_pl.degradation.BicubicDegradation"}
SHAPES = {
    "the node itself": lambda evil: evil,
    "an argument": lambda evil: {**HONEST, "scale": evil},
    "in a list": lambda evil: {**HONEST, "scale": [1, {"deep": evil}]},
    "below a node that is not built": lambda evil: {"a": {"b": [evil]}},
    "partial": lambda evil: {**HONEST, "scale": {**evil, "_partial_": True}},
    "not recursive": lambda evil: {**HONEST, "_recursive_": False, "scale": evil},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_recorded_config_calls_nothing_of_another_package_however_deep(shape, tmp_path):
    with pytest.raises(ValueError, match=r"nothing was run") as refusal:
        build(shape(touching(tmp_path / "witness")), key="module", origin=tmp_path / "config.yaml")
    assert "os.mkdir" in str(refusal.value)
    assert "trust=[os.mkdir]" in str(refusal.value)
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.utils.collect_env.run",
        "hydra.utils.get_method",
        "hydra.utils.instantiate",
        "builtins.eval",
        "torch.hub.load",
        "torch.optim.sys.exit",  # leads out of its package
        "seesr_pl.files.os.mkdir",
        "seesr_pl.files.shutil.rmtree",
        "seesr_pl.files.write_whole",  # ours, but a function that writes any file
        "seesr_pl.files.Path",  # a class, but not ours
        "seesr_pl.trust.build",
        "seesr_pl.runs.load_module",
        "torch.optim.Adam.step",
        "torch.optimizer_of_a_stranger.X",
        "seesr_pl_of_a_stranger.X",
        "seesr_pl.nowhere.X",
        "seesr_pl",
        "",
        7,
        None,
        {"_target_": "os.getcwd"},
    ],
)
def test_only_classes_of_this_project_and_of_torch_optim_are_built(target, tmp_path):
    with pytest.raises(ValueError, match="nothing was run"):
        build({"_target_": target}, key="module", origin=tmp_path / "config.yaml")


def test_no_module_of_a_stranger_is_imported(tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'witness')!r})\nclass X: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"module\._target_ = 'stranger\.X'"):
        build({"_target_": "stranger.X"}, key="module", origin=tmp_path / "config.yaml")
    assert not (tmp_path / "witness").exists()


def test_text_is_not_resolved_twice(tmp_path):
    content = r"""
    module:
      _target_: seesr_pl.degradation.BicubicDegradation
      scale: "\\${oc.create:{_target_: os.mkdir, _args_: [WITNESS]}}"
    """.replace("WITNESS", str(tmp_path / "witness"))
    node = plain(OmegaConf.create(content))["module"]
    assert "${" in node["scale"]
    with pytest.raises(ValueError, match="nothing was run"):
        build(node, key="module", origin=tmp_path / "config.yaml")
    assert not (tmp_path / "witness").exists()


def test_a_resolver_that_makes_a_node_is_seen_through(tmp_path):
    made = f"${{oc.create:{{_target_: os.mkdir, _args_: ['{tmp_path / 'witness'}']}}}}"
    node = plain(OmegaConf.create({"module": {**HONEST, "scale": made}}))["module"]
    with pytest.raises(ValueError, match=r"module\.scale\._target_ = 'os\.mkdir'"):
        build(node, key="module", origin=tmp_path / "config.yaml")


def test_what_the_user_names_is_built_and_nothing_else(tmp_path):
    made = build(touching(tmp_path / "a"), key="module", origin=tmp_path, trust=["os.mkdir"])
    assert made is None
    assert (tmp_path / "a").is_dir()
    with pytest.raises(ValueError, match=r"os\.mkdir"):
        build(touching(tmp_path / "b"), key="module", origin=tmp_path, trust=["os.mkdirs", "os", "os.mkdir.x"])


def test_an_optimizer_and_our_own_classes_need_no_trust(tmp_path):
    node = {"optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}, "degradation": HONEST}
    made = build(node, key="module", origin=tmp_path)
    assert made["optimizer"].func is torch.optim.SGD


@pytest.mark.parametrize(
    "path", sorted((ROOT / "conf").glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_what_the_shipped_configs_build_from_a_record_needs_no_trust(path):
    content = OmegaConf.to_container(OmegaConf.load(path))
    groups = ("module", "data", "degradation", "sampler")
    parts = {path.parent.name: content} if path.parent.name in groups else content
    kept = {name: part for name, part in parts.items() if name in groups}
    if "optimizer" in kept.get("module", {}):
        del kept["module"]["optimizer"]  # is not built where a run is loaded
    assert [place for place in trust._refused(kept, ()) if place[0].endswith("_target_")] == []


def run_folder(folder: Path, module: dict, checkpoint: object) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(checkpoint, folder / "checkpoints" / "last.ckpt")
    RunFolder(folder).record(OmegaConf.create({"module": module}))
    return folder


def test_a_run_folder_of_a_stranger_runs_neither_its_config_nor_its_checkpoint(tmp_path):
    witness = tmp_path / "witness"
    by_config = run_folder(tmp_path / "a", touching(witness), {"state_dict": {}})
    with pytest.raises(ValueError, match=r"a/config\.yaml names what is not built"):
        load_module(by_config)
    module = {"_target_": "seesr_pl.training.DAPEDistillation", "ram": {"_target_": "seesr_pl.tiny.tiny_ram"}}
    by_checkpoint = run_folder(tmp_path / "b", module, {"state_dict": {}, "more": Runs(witness)})
    with pytest.raises(ValueError, match="could run code"):
        load_module(by_checkpoint)
    assert not witness.exists()


def test_only_trust_lets_the_conversion_unpickle(tmp_path):
    witness, source = tmp_path / "witness", tmp_path / "x.ckpt"
    lora = {"ram.visual_encoder.layers.0.lora_A.default.weight": torch.zeros(1)}
    torch.save({"state_dict": lora, "more": Runs(witness)}, source)
    with pytest.raises(ValueError, match="could run code"):
        convert_dape(source, tmp_path / "out.safetensors")
    assert not witness.exists()
    assert len(convert_dape(source, tmp_path / "out.safetensors", trust=True)) == len(lora)
    assert witness.is_dir()
