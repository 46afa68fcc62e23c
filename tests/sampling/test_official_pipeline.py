"""The pipeline's parts against the official pipeline, end to end and with its random draws."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stacks import small_ram
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from seesr_pl.models.denoiser import embed
from seesr_pl.sampling.images import Work, generators_for
from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.sampling.settings import Sampling

TEXT = {
    "vocab_size": 600,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "hidden_act": "gelu",
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}


@pytest.fixture(scope="module")
def pipeline(golden, recording):
    state = load_file(golden / "pipeline_tiny.text.safetensors")
    state.pop("text_model.embeddings.position_ids", None)
    text_encoder = CLIPTextModel(CLIPTextConfig(**TEXT)).eval()
    text_encoder.load_state_dict({name.removeprefix("text_model."): tensor for name, tensor in state.items()})
    tokenizer = CLIPTokenizer.from_pretrained(golden / "pipeline_tiny.tokenizer")
    scheduler = recording.scheduler("untiled_lr")
    return SeeSRPipeline(
        recording.vae, text_encoder, tokenizer, recording.unet, recording.controlnet, small_ram(dape=False), scheduler
    )


def test_texts_are_encoded_as_the_official_code_does(pipeline, recording):
    texts = ["dotted, noise, blur, lowres, smooth", "cat, dog, clean, high-resolution, 8k"]
    expected = recording.values["untiled_lr/mid/prompt_embeds"]
    torch.testing.assert_close(embed(pipeline.tokenizer, pipeline.text_encoder, texts), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ["untiled_lr", "untiled_noise", "tiled_lr", "untiled_lr_ddim"])
def test_the_official_recipe_gives_the_official_picture_from_the_same_seeds(pipeline, recording, case):
    facts, picture = recording.cases[case], recording.values[f"{case}/in/image_u8"].numpy()
    torch.manual_seed(facts["global_seed"])
    generator = torch.Generator().manual_seed(facts["generator_seed"])
    settings = Sampling(
        num_inference_steps=facts["n"],
        guidance_scale=facts["guidance"],
        conditioning_scale=facts["cond_scale"],
        tile=facts["lts"],
        overlap=facts["lto"],
        start_from={"lr": "lq", "noise": "noise"}[facts["start_point"]],
        recipe="official",
        color_fix="none",
    )
    restored = SeeSRPipeline(**pipeline.components | {"scheduler": recording.scheduler(case)})._restore(
        [Work(picture, picture.shape[:2], picture.shape[:2])],
        ["cat, dog, clean, high-resolution, 8k"],
        recording.values["ram_encoder_hidden_states"],
        settings=settings,
        generator=generators_for(generator, 1, recipe="official"),
        on_step=lambda index, timestep, latents: latents,
    )[0]
    difference = np.abs(restored.astype(int) - recording.values[f"{case}/out/image_u8"].numpy())
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
