"""`seesr doctor` names what is missing or broken, and the fix."""

import sys

from typer.testing import CliRunner

from seesr_pl.cli import commands


def doctor(folder):
    return CliRunner().invoke(commands, ["doctor", "--weights", str(folder)], env={"COLUMNS": "400"})


def test_weights_that_are_not_there_are_named_with_their_origin_and_break_nothing(tmp_path):
    result = doctor(tmp_path)
    assert result.exit_code == 0
    assert f"{tmp_path}/DAPE.pth" in result.output
    assert "stabilityai/sd-turbo on Hugging Face" in result.output


def test_a_file_that_is_other_than_published_is_broken(tmp_path):
    (tmp_path / "ram_swin_large_14m.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    result = doctor(tmp_path)
    assert result.exit_code == 1
    assert "broken: 42 bytes, published with 5,625,634,877" in result.output


def test_the_command_that_installs_an_extra_is_shown_whole(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'seesr-pl[demo]'" in doctor(tmp_path).output
