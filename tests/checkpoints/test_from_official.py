"""`SeeSRPipeline.from_official` from tiny files in the published formats."""

import official
import pytest
import torch
from diffusers import UNet2DConditionModel
from sd_folders import write_published

from seesr_pl.sampling.pipeline import SeeSRPipeline


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_published(tmp_path_factory.mktemp("published"), tagger=official.ram(dape=True))


def assert_equal(network, expected):
    found = network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_every_network_is_the_published_one(published):
    pipeline = SeeSRPipeline.from_official(published.base, published.seesr, published.ram, published.dape)
    assert_equal(pipeline.unet, published.networks.unet.state_dict())
    assert_equal(pipeline.controlnet, published.networks.controlnet.state_dict())
    assert_equal(pipeline.ram, published.tagger.state_dict())
    assert pipeline.ram.tag_names == published.tagger.tag_names
    assert pipeline.scheduler.config.beta_schedule == "scaled_linear"
    assert not any(part.training for part in pipeline.components.values() if isinstance(part, torch.nn.Module))


def test_without_dape_the_tagger_is_plain_ram(published):
    pipeline = SeeSRPipeline.from_official(published.base, published.seesr, published.ram)
    assert pipeline.ram.lora_rank is None


def test_the_base_unet_may_be_kept_with_the_published_rca(published):
    pipeline = SeeSRPipeline.from_official(
        published.base, published.seesr, published.ram, published.dape, keep_base_unet=True
    )
    base = UNet2DConditionModel.from_pretrained(published.base / "unet").state_dict()
    rca = {name: value for name, value in published.networks.unet.state_dict().items() if ".image_attentions." in name}
    assert_equal(pipeline.unet, base | rca)


def test_lists_that_lie_elsewhere_are_read_there(published, tmp_path):
    tags, thresholds = tmp_path / "tags.txt", tmp_path / "thresholds.txt"
    number = len(published.tagger.tag_names)
    tags.write_text("\n".join(f"other{index}" for index in range(number)))
    thresholds.write_text("0.25\n" * number)
    pipeline = SeeSRPipeline.from_official(
        published.base, published.seesr, published.ram, published.dape, tag_list=tags, thresholds=thresholds
    )
    assert pipeline.ram.tag_names[0] == "other0"
    assert pipeline.ram.thresholds[0] == 0.25


def test_half_precision_is_of_all_but_the_tagger(published):
    pipeline = SeeSRPipeline.from_official(
        published.base, published.seesr, published.ram, published.dape, torch_dtype=torch.bfloat16
    )
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet, pipeline.controlnet):
        assert {parameter.dtype for parameter in part.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in pipeline.ram.parameters()} == {torch.float32}
