"""Which results the restoring of files keeps: those that the same file, settings, weights and seed made."""

import numpy as np
import pytest
import torch
from PIL import Image
from stacks import small_stack

from seesr_pl.imaging.io import read_rgb
from seesr_pl.jobs.restore import Job, Restorer, RestorerSettings, batches
from seesr_pl.sampling.pipeline import SeeSRPipeline

SETTINGS = {"num_inference_steps": 1, "guidance_scale": 1.0, "process_size": 64, "prompt": ""}


@pytest.fixture(scope="module")
def pipeline():
    pipeline = SeeSRPipeline(*small_stack())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def state(pipeline, tmp_path):
    """What becomes of one image, restored once before, under other arguments."""
    levels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "lq.png")

    def state(*, sample=0, target="restored.png", seed=0, settings=None, **arguments):
        told = RestorerSettings(lambda device: pipeline, None, SETTINGS | (settings or {}), seed, **arguments)
        restorer = Restorer(pipeline, told)
        [outcome] = restorer([Job(tmp_path / "lq.png", tmp_path / target, sample)], lambda amount: None)
        pipeline.describe_by("own")
        return outcome.state

    assert state() == "restored"
    return state


def test_the_same_again_is_kept_unless_told_otherwise(state):
    assert state() == "kept"
    assert state(overwrite=True) == "restored"


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"prompt": "old"}},
        {"settings": {"num_inference_steps": 2}},
        {"seed": 1},
        {"sample": 1},
        {"prompter": "none"},
        {"settings": {"scheduler": "ddim"}},
        {"target": "restored.webp"},
    ],
    ids=str,
)
def test_what_other_facts_made_is_not_kept(state, change):
    assert state(**change) == "restored"
    assert state(**change) == "kept"


@pytest.mark.parametrize("part", ["vae", "text_encoder", "unet", "controlnet", "ram"])
def test_what_other_weights_made_is_not_kept(state, pipeline, part):
    parameter = next(getattr(pipeline, part).parameters())
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.mul_(1.001)
        try:
            assert state() == "restored"
        finally:
            parameter.copy_(before)


def test_what_another_image_made_is_not_kept(state, tmp_path):
    Image.new("RGB", (16, 12), "red").save(tmp_path / "lq.png")
    assert state() == "restored"


@pytest.fixture
def ablated(pipeline):
    """The pipeline with the representation of plain RAM."""
    pipeline.register_to_config(representation="ram")
    yield pipeline
    pipeline.register_to_config(representation="dape")


def test_what_another_ablation_made_is_not_kept(state, ablated):
    assert state() == "restored"
    assert state() == "kept"


def test_without_a_sampler_the_pipelines_own_settings_hold():
    own = SeeSRPipeline(*small_stack(), sampler={"tile": 40})
    assert Restorer(own, RestorerSettings(lambda device: own, None, SETTINGS)).sampling.tile == 40
    assert Restorer(own, RestorerSettings(lambda device: own, "official", SETTINGS)).sampling.tile == 96


def test_a_prompter_says_the_tags(state, tmp_path):
    assert '"tags": ""' not in (tmp_path / "restored.json").read_text()
    assert state(prompter="none") == "restored"
    assert '"tags": ""' in (tmp_path / "restored.json").read_text()


@pytest.fixture
def jobs(tmp_path):
    """Three images of equal size, each with tags of its own or none, and the second sample of the first of them."""
    for number in range(3):
        levels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(levels).save(tmp_path / f"{number}.png")
    told = [(0, 0, None), (1, 0, "old, stone"), (2, 0, None), (0, 1, None)]

    def jobs(folder):
        return [
            Job(tmp_path / f"{number}.png", tmp_path / folder / f"{number}_{sample}.png", sample, tags)
            for number, sample, tags in told
        ]

    return jobs


def restored(pipeline, jobs, advance=lambda amount: None):
    """The outcomes' states by the target's name, each group of `jobs` together, and the results."""
    restorer = Restorer(pipeline, RestorerSettings(lambda device: pipeline, None, SETTINGS | {"batch_size": 4}))
    outcomes = [one for group in jobs for one in restorer(group, advance)]
    found = {one.job.target.stem: one.state for one in outcomes}
    return found, {
        one.job.target.stem: read_rgb(one.job.target).astype(int) for one in outcomes if one.state == "restored"
    }


def test_images_restored_together_are_those_restored_alone_with_their_own_noise_and_tags(pipeline, jobs, tmp_path):
    told = []
    [group] = batches(jobs("together"), 4)
    together, alone = restored(pipeline, [group], told.append), restored(pipeline, batches(jobs("alone"), 1))
    assert together[0] == alone[0] == dict.fromkeys(["0_0", "1_0", "2_0", "0_1"], "restored")
    assert all(np.abs(together[1][name] - alone[1][name]).max() <= 1 for name in alone[1])
    assert (alone[1]["0_0"] != alone[1]["0_1"]).any()
    assert '"tags": "old, stone"' in (tmp_path / "together" / "1_0.json").read_text()
    assert sum(told) == 4


def test_an_image_that_cannot_be_read_fails_alone(pipeline, jobs, tmp_path):
    (tmp_path / "1.png").write_bytes(b"no image")
    told = []
    found, _ = restored(pipeline, [jobs("out")], told.append)
    assert found == {"0_0": "restored", "1_0": "failed", "2_0": "restored", "0_1": "restored"}
    assert sum(told) == 4


def test_images_that_fail_together_are_restored_alone(pipeline, jobs):
    def refuse(network, arguments):
        if len(arguments[0]) > 1:
            raise torch.OutOfMemoryError("too large")

    told, handle = [], pipeline.unet.register_forward_pre_hook(refuse)
    try:
        found, _ = restored(pipeline, [jobs("out")], told.append)
    finally:
        handle.remove()
    assert set(found.values()) == {"restored"}
    assert sum(told) == pytest.approx(4)


def test_groups_hold_images_of_equal_size(jobs, tmp_path):
    Image.new("RGB", (20, 12)).save(tmp_path / "2.png")
    groups = batches(jobs("out"), 2)
    assert [[job.target.stem for job in group] for group in groups] == [["0_0", "1_0"], ["0_1"], ["2_0"]]


@pytest.fixture
def folder(tmp_path):
    """Three images, of which two are of one size."""
    draw = np.random.default_rng(1)
    for name, size in (("a", (12, 16)), ("b", (14, 16)), ("c", (12, 16))):
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def in_turn(pipeline, folder, names, *, out, samples=1):
    """What becomes of images of `folder` under the official recipe, and the pixels of the results."""
    told = RestorerSettings(lambda device: pipeline, None, SETTINGS | {"recipe": "official"}, 5)
    restorer = Restorer(pipeline, told)
    jobs = [Job(folder / f"{name}.png", folder / out / f"{name}{k}.png", k) for name in names for k in range(samples)]
    states = [one.state for job in jobs for one in restorer([job], lambda amount: None)]
    made = [np.asarray(Image.open(job.target)) for job in jobs if job.target.is_file()]
    return states, made


def test_the_official_recipe_restores_a_folder_with_one_generator(pipeline, folder):
    state = torch.get_rng_state()
    _, made = in_turn(pipeline, folder, "abc", out="all")
    assert torch.equal(torch.get_rng_state(), state)
    generator, images = torch.Generator().manual_seed(5), [Image.open(folder / f"{name}.png") for name in "abc"]
    with torch.random.fork_rng():
        torch.manual_seed(5)  # as accelerate's set_seed does in the official script
        expected = pipeline(images, generator=generator, recipe="official", **SETTINGS).images
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(made, expected, strict=True))
    _, alone = in_turn(pipeline, folder, "c", out="alone")
    assert (alone[0] != made[2]).any()


def test_a_folder_of_the_official_recipe_goes_on_where_it_stopped(pipeline, folder):
    _, whole = in_turn(pipeline, folder, "ac", out="whole", samples=2)
    in_turn(pipeline, folder, "a", out="parts", samples=2)
    (folder / "b.png").write_bytes(b"no image")
    states, made = in_turn(pipeline, folder, "abc", out="parts", samples=2)
    assert states == ["kept", "kept", "failed", "failed", "restored", "restored"]
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(made, whole, strict=True))


@pytest.mark.parametrize(("changes", "alone"), [({}, False), ({"batch_size": 2}, True)])
def test_the_official_recipe_is_refused_on_several_devices_and_in_batches(pipeline, changes, alone):
    told = RestorerSettings(lambda device: pipeline, None, {"recipe": "official", **changes}, alone=alone)
    with pytest.raises(ValueError, match=r"recipe=official .* one device and batch_size=1"):
        Restorer(pipeline, told)
