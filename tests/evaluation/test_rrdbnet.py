"""RRDBNet reads both published layouts strictly, and is its own equation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seesr_pl.evaluation.metrics import psnr_y
from seesr_pl.evaluation.rrdbnet import RRDBNet, RRDBNetMethod
from seesr_pl.imaging.io import read_rgb

# Of the first five images of RealSR; the mean of all 100 is 25.71 with this network, and published as 25.69.
PSNR_OF_FIVE = [27.0839, 23.2724, 20.7707, 26.4857, 27.1209]
TO_OLD = (("conv_body", "trunk_conv"), ("body.", "RRDB_trunk."), (".rdb", ".RDB"), ("conv_up", "upconv"))


@pytest.fixture
def network() -> RRDBNet:
    torch.manual_seed(0)
    return RRDBNet(num_blocks=2, features=8, growth=4).eval()


def _old_names(state):
    renamed = {}
    for key, tensor in state.items():
        for new, old in (*TO_OLD, ("conv_hr", "HRconv")):
            key = key.replace(new, old)
        renamed[key] = tensor
    return renamed


def test_the_full_size_network_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in RRDBNet().parameters()) == 16_697_987


@pytest.mark.parametrize("layout", [lambda state: state, _old_names])
def test_both_layouts_give_the_same_network(network, layout):
    read = RRDBNet.from_state_dict(layout(network.state_dict()))
    lq = torch.rand(1, 3, 9, 7)
    assert read(lq).shape == (1, 3, 36, 28)
    torch.testing.assert_close(read(lq), network(lq), rtol=0, atol=0)


def test_a_dense_block_without_its_last_convolution_is_the_identity(network):
    block = network.body[0].rdb1
    torch.nn.init.zeros_(block.conv5.weight)
    torch.nn.init.zeros_(block.conv5.bias)
    x = torch.rand(1, 8, 5, 5)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)


@pytest.mark.parametrize("wrapper", ["params_ema", "params", None])
def test_a_published_file_restores_an_image(network, tmp_path, wrapper):
    state = network.state_dict()
    torch.save(state if wrapper is None else {wrapper: state}, tmp_path / "net.pth")
    sr = RRDBNetMethod(str(tmp_path / "net.pth"))(np.zeros((6, 8, 3), np.uint8), name="a")
    assert sr.shape == (24, 32, 3)
    assert sr.dtype == np.uint8


def test_other_weights_and_other_files_are_refused(tmp_path, network):
    with pytest.raises(ValueError, match="not those of a x4 RRDBNet"):
        RRDBNet.from_state_dict({"conv.weight": torch.zeros(1)})
    (tmp_path / "net.pth").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"method.weights=.*net.pth cannot be read"):
        RRDBNetMethod(str(tmp_path / "net.pth"))
    state = network.state_dict()
    state.pop("conv_hr.bias")
    with pytest.raises(RuntimeError, match=r"conv_hr\.bias"):
        RRDBNet.from_state_dict(state)


def test_a_file_that_is_not_there_is_a_missing_file(tmp_path):
    assert [file.fix for file in RRDBNetMethod.missing_files(str(tmp_path / "a.pth"))] == ["method.weights=FILE"]


def _export(network: RRDBNet, param: Path) -> None:
    """Write what ncnn's tools make of the network."""
    lines, content = ["7767517", "1 1", "Input  input.1  0 1 data"], b""
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            weight, bias = module.weight.detach(), module.bias.detach()
            lines.append(f"Convolution  {name}  1 1 a b 0={len(bias)} 1=3 4=1 5=1 6={weight.numel()} -23310=1,2.0e-01")
            half = weight.numpy().astype("<f2").tobytes()
            content += (0x01306B47).to_bytes(4, "little") + half + bytes(-len(half) % 4) + bias.numpy().tobytes()
    param.write_text("\n".join(lines))
    param.with_suffix(".bin").write_bytes(content)


# An odd number of features gives weights that end inside four bytes.
@pytest.mark.parametrize("features", [8, 7])
def test_an_ncnn_export_is_the_network_in_half_precision(tmp_path, features):
    network = RRDBNet(num_blocks=2, features=features, growth=3)
    _export(network, tmp_path / "net.param")
    read = RRDBNetMethod(tmp_path / "net.param").network.state_dict()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(read[name], tensor.half().float() if "weight" in name else tensor, rtol=0, atol=0)


def test_an_ncnn_export_that_is_cut_or_longer_or_another_network_is_refused(tmp_path, network):
    param = tmp_path / "net.param"
    _export(network, param)
    content = param.with_suffix(".bin").read_bytes()
    for wrong in (content[:-1], content[:100], content + bytes(4), bytes(4) + content[4:]):
        param.with_suffix(".bin").write_bytes(wrong)
        with pytest.raises(ValueError, match=r"net\.bin (does not hold|holds)"):
            RRDBNetMethod(param)
    network.conv_last = torch.nn.Conv2d(8, 5, 3)
    _export(network, param)
    with pytest.raises(ValueError, match="not an export of a x4 RRDBNet"):
        RRDBNetMethod(param)


@pytest.mark.slow
def test_the_packaged_real_esrgan_restores_five_images_of_realsr_as_measured(benchmarks):
    if RRDBNetMethod.missing_files():
        pytest.skip("the extra [realesrgan] is not installed")
    method = RRDBNetMethod()
    names = sorted((benchmarks / "realsr" / "test_LR").glob("*.png"))[:5]
    values = [psnr_y(method(read_rgb(lq), name=lq.stem), read_rgb(lq.parents[1] / "test_HR" / lq.name)) for lq in names]
    assert values == pytest.approx(PSNR_OF_FIVE, abs=2e-3)
