"""`seesr convert ram` and `dape`: the published format to safetensors and back, without a bit lost."""

import pytest
import torch
from lightning import Trainer
from ram_cases import TINIEST
from safetensors.torch import load_file
from typer.testing import CliRunner

from seesr_pl.checkpoints import dape_state_dict, ram_state_dict
from seesr_pl.cli.convert import app
from seesr_pl.models.ram import RAM
from seesr_pl.training.dape import DAPEDistillation


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    ram = RAM(TINIEST, ["cat", "dog"], [0.5, 0.6])
    ram.add_lora(2)
    for name, parameter in ram.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    return ram


@pytest.fixture
def published(source, tmp_path):
    unused = {
        "tag_encoder.embeddings.LayerNorm.bias": torch.ones(3),
        "text_decoder.cls.predictions.bias": torch.ones(3),
    }
    content = {"model": ram_state_dict(source) | unused, "optimizer": {"state": {0: torch.ones(3)}}, "epoch": 4}
    torch.save(content, tmp_path / "ram.pth")
    dead = {f"tag_encoder.encoder.layer.0.attention.self.query.lora_{part}": torch.zeros(2, 2) for part in "AB"}
    torch.save(dape_state_dict(source) | dead, tmp_path / "DAPE.pth")
    return tmp_path


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_ram_becomes_safetensors_and_the_published_format_again(source, published):
    assert "ram.safetensors: " in run("ram", published / "ram.pth", published / "ram.safetensors")
    assert equal(load_file(published / "ram.safetensors"), ram_state_dict(source))
    run("ram", published / "ram.safetensors", published / "back.pth")
    assert equal(torch.load(published / "back.pth", weights_only=True)["model"], ram_state_dict(source))


def test_dape_becomes_safetensors_and_the_published_format_again(source, published):
    run("dape", published / "DAPE.pth", published / "DAPE.safetensors")
    assert equal(load_file(published / "DAPE.safetensors"), dape_state_dict(source))
    run("dape", published / "DAPE.safetensors", published / "back.pth")
    assert equal(torch.load(published / "back.pth", weights_only=True), dape_state_dict(source))


def test_converted_files_give_bit_identical_outputs(source, published):
    run("ram", published / "ram.pth", published / "ram.safetensors")
    run("dape", published / "DAPE.pth", published / "DAPE.safetensors")
    (published / "ram_tag_list.txt").write_text("cat\ndog")
    (published / "ram_tag_list_threshold.txt").write_text("0.5\n0.6\n")
    ram = RAM.from_official(published / "ram.safetensors", published / "DAPE.safetensors")
    pixel_values = torch.randn(2, 3, 16, 16)
    for ours, theirs in zip(ram(pixel_values), source(pixel_values), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("by_folder", [True, False])
def test_a_run_gives_its_dape(source, tmp_path, by_folder):
    module = DAPEDistillation(source)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_steps=0)
    trainer.fit(module, torch.utils.data.DataLoader([0]))
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    trainer.save_checkpoint(path)
    run("dape", tmp_path / "run" if by_folder else path, tmp_path / "mine.pth")
    assert equal(torch.load(tmp_path / "mine.pth", weights_only=True), dape_state_dict(source))


def test_nothing_is_written_of_another_network(published):
    with pytest.raises(ValueError, match="found a DAPE"):
        run("ram", published / "DAPE.pth", published / "out.safetensors")
    with pytest.raises(ValueError, match="found a RAM"):
        run("dape", published / "ram.pth", published / "out.safetensors")
    assert not list(published.glob("out*"))


def test_a_ram_that_lacks_a_tensor_is_refused(source, published):
    state = ram_state_dict(source)
    del state["fc.bias"]
    torch.save({"model": state}, published / "ram.pth")
    with pytest.raises(ValueError, match=r"1 missing: fc\.bias"):
        run("ram", published / "ram.pth", published / "out.safetensors")


def test_another_ending_is_refused(published):
    with pytest.raises(ValueError, match=r"out\.bin must end in"):
        run("ram", published / "ram.pth", published / "out.bin")
