"""`seesr tag` writes what training would compute, once for each picture, however many processes share the work."""

import numpy as np
import pytest
import torch
import typer
from ram_cases import TINIEST
from stacks import small_stack
from typer.testing import CliRunner

from seesr_pl.cli.tag import tag
from seesr_pl.data.shards import ShardIndex
from seesr_pl.data.writer import ShardWriter
from seesr_pl.imaging.io import read_rgb, write_image
from seesr_pl.jobs import tag as tagging
from seesr_pl.models.ram import RAM
from seesr_pl.sampling.pipeline import SeeSRPipeline

command = typer.Typer()
command.command()(tag)


@pytest.fixture(scope="module")
def ram():
    torch.manual_seed(0)
    ram = RAM(TINIEST, [f"tag{index}" for index in range(30)], [0.5] * 30)
    torch.nn.init.normal_(ram.label_embed, std=3.0)
    return ram


@pytest.fixture(scope="module")
def ram_folder(ram, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ram")
    ram.save_pretrained(folder)
    return folder


@pytest.fixture
def pictures(tmp_path):
    """A folder with five pictures of different sizes, one of them below a subfolder."""
    random = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for index in range(5):
        image = random.integers(0, 256, (20 + index, 30, 3), dtype=np.uint8)
        write_image(folder / ("below" if index == 4 else "") / f"{index}.png", image)
    return folder


@pytest.fixture
def shard(pictures, tmp_path):
    with ShardWriter(tmp_path / "shards", prefix="photos") as writer:
        writer.num_shards = 3
        for path in sorted(pictures.rglob("*.png")):
            writer.write(path.stem, path.read_bytes(), extension="png")
    return tmp_path / "shards" / "photos-000003.tar"


def run(*words, exit_code=0):
    result = CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    return result.output


def stored(shard):
    """{key: (image bytes, tags, representation)} of a shard."""
    data = shard.read_bytes()
    index = ShardIndex.from_bytes((shard.parent / f"{shard.name}.idx").read_bytes())
    entries = [index[position] for position in range(len(index))]
    member = lambda part: data[part.offset : part.offset + part.size] if part.offset else None  # noqa: E731
    return {entry.key: tuple(map(member, (entry.image, entry.tags, entry.representation))) for entry in entries}


def test_each_picture_gets_its_tags_beside_its_place_in_the_folder(ram, ram_folder, pictures, tmp_path):
    run(pictures, "--out", tmp_path / "tags", "--ram", ram_folder, "--batch-size", 2)
    for path in pictures.rglob("*.png"):
        text = (tmp_path / "tags" / path.relative_to(pictures)).with_suffix(".txt").read_text()
        assert text == tagging.Tagger(ram)([read_rgb(path)])[0].text
        assert text.endswith(",")


def test_a_shard_becomes_a_shard_of_the_same_name_with_tags_and_representations(ram, ram_folder, shard, tmp_path):
    run(shard, "--out", tmp_path / "tagged", "--ram", ram_folder, "--representation", "--batch-size", 2)
    before, after = stored(shard), stored(tmp_path / "tagged" / shard.name)
    assert before.keys() == after.keys()
    for key, (image, text, representation) in after.items():
        expected = tagging.Tagger(ram, representation=True)([read_rgb(image)])[0]
        assert image == before[key][0]
        assert text.decode() == expected.text
        values = np.frombuffer(representation[-expected.representation.nbytes :], np.float16)
        np.testing.assert_allclose(values.reshape(expected.representation.shape), expected.representation, atol=2e-3)


def test_with_dape_the_lora_sees(ram, pictures, tmp_path):
    ram = RAM.from_pretrained(_saved(ram, tmp_path / "plain"))
    ram.add_lora(2)
    for name, parameter in ram.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    folder = _saved(ram, tmp_path / "dape")
    run(pictures / "0.png", "--out", tmp_path / "tags", "--ram", folder, "--representation")
    written = np.load(tmp_path / "tags" / "0.rep.npy")
    tagger, picture = tagging.Tagger(ram, representation=True), read_rgb(pictures / "0.png")
    with ram.disable_adapter():
        plain = tagger([picture])[0].representation
    np.testing.assert_allclose(written, tagger([picture])[0].representation, atol=2e-3)
    assert np.abs(written - plain).max() > 0.1


def _saved(ram, folder):
    ram.save_pretrained(folder)
    return folder


def test_the_same_command_again_does_only_what_is_left(ram_folder, pictures, shard, tmp_path):
    words = [pictures, shard.parent, "--out", tmp_path / "out", "--ram", ram_folder]
    run(*words)
    kept, lost = tmp_path / "out" / "1.txt", tmp_path / "out" / "2.txt"
    kept.write_text("mine,")
    expected = lost.read_text()
    lost.unlink()
    assert "1 images tagged" in run(*words)
    assert (kept.read_text(), lost.read_text()) == ("mine,", expected)


def test_a_shard_that_was_interrupted_is_done_again(ram_folder, shard, tmp_path, monkeypatch):
    words = [shard, "--out", tmp_path / "out", "--ram", ram_folder, "--batch-size", 2]
    with monkeypatch.context() as patch:
        patch.setattr(tagging, "_decoded", lambda *told: (_ for _ in ()).throw(KeyboardInterrupt))
        work = tagging.TaggerSettings(lambda: RAM.from_pretrained(ram_folder), batch_size=2).worker("cpu")
        (job,) = tagging.plan([shard], tmp_path / "out").jobs
        with pytest.raises(KeyboardInterrupt):
            work(job, id)
    assert not (tmp_path / "out" / shard.name).exists()
    run(*words)
    assert len(stored(tmp_path / "out" / shard.name)) == 5


def test_damaged_pictures_are_named_and_stay_in_the_shard_without_tags(ram_folder, pictures, tmp_path):
    with ShardWriter(tmp_path / "shards", prefix="photos") as writer:
        writer.write("good", (pictures / "0.png").read_bytes(), extension="png")
        writer.write("bad", b"\x89PNG\r\n\x1a\nnothing", extension="png")
    (pictures / "bad.jpg").write_bytes(b"no picture")
    output = run(pictures, tmp_path / "shards", "--out", tmp_path / "out", "--ram", ram_folder, exit_code=1)
    assert "6 images tagged" in output
    assert "2 failed" in output
    assert "bad.jpg" in output
    assert "photos-000000.tar: bad" in output
    assert not (tmp_path / "out" / "bad.txt").exists()
    after = stored(tmp_path / "out" / "photos-000000.tar")
    assert (after["bad"][1], after["good"][1] is None) == (None, False)


def test_two_sources_for_one_target_are_refused(pictures, tmp_path):
    write_image(pictures / "0.jpg", read_rgb(pictures / "0.png"))
    with pytest.raises(ValueError, match=r"two sources would both be written to .*0\.txt"):
        tagging.plan([pictures], tmp_path)


def test_nothing_to_tag_is_told(tmp_path):
    with pytest.raises(ValueError, match="no image and no shard"):
        tagging.plan([tmp_path], tmp_path / "out")


def test_missing_weights_are_told_with_their_origin(pictures, tmp_path):
    with pytest.raises(FileNotFoundError, match="xinyu1205/recognize-anything"):
        run(pictures, "--out", tmp_path / "out", "--ram", tmp_path / "ram_swin_large_14m.pth")


@pytest.mark.slow
def test_two_processes_write_what_one_writes(ram_folder, pictures, shard, tmp_path):
    for processes in (1, 2):
        words = ["--out", tmp_path / str(processes), "--ram", ram_folder, "--processes", processes]
        assert "10 images tagged" in run(pictures, shard, *words)
    one, two = (sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in "12")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_pipeline_folder_tags_with_its_own_ram(pictures, ram, ram_folder, tmp_path):
    SeeSRPipeline(*small_stack()).save_pretrained(tmp_path / "pipeline")
    run(pictures, "--out", tmp_path / "a", "--ckpt", tmp_path / "pipeline", "--device", "cpu")
    run(pictures, "--out", tmp_path / "b", "--ram", tmp_path / "pipeline" / "ram", "--device", "cpu")
    texts = [{p.name: p.read_text() for p in (tmp_path / name).rglob("*.txt")} for name in "ab"]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 5
    with pytest.raises(ValueError, match="which RAM"):
        run(pictures, "--out", tmp_path / "c")
    with pytest.raises(ValueError, match="which RAM"):
        run(pictures, "--out", tmp_path / "c", "--ckpt", tmp_path / "pipeline", "--ram", ram_folder)
