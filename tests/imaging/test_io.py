"""Image files in and out."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from seesr_pl import limits
from seesr_pl.imaging.io import DecodedImage, read_decoded, read_rgb, write_decoded, write_image


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_a_written_picture_reads_back_close_to_itself(tmp_path, rgb, ending):
    smooth = np.full_like(rgb, (200, 120, 40))
    write_image(tmp_path / f"a.{ending}", smooth)
    assert np.abs(read_rgb(tmp_path / f"a.{ending}").astype(int) - smooth).max() <= 3


def test_png_is_lossless(tmp_path, rgb):
    write_image(tmp_path / "a.png", rgb)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), rgb)


def test_exif_orientation_turns_the_picture_upright(rgb):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(rgb), exif=exif)
    np.testing.assert_array_equal(read_rgb(data), np.rot90(rgb, -1))


def test_sixteen_bit_gray_is_scaled_not_clipped():
    deep = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    levels = read_rgb(encoded(Image.fromarray(deep)))
    np.testing.assert_array_equal(levels[0, :, 0], [0, 100, 255])


def test_a_dark_sixteen_bit_picture_stays_dark():
    assert read_rgb(encoded(Image.fromarray(np.full((2, 2), 200, dtype=np.uint16)))).max() == 1


def test_transparency_lies_over_white_and_is_kept_apart(rgb):
    alpha = np.full((5, 7), 0, dtype=np.uint8)
    data = encoded(Image.fromarray(np.dstack([rgb, alpha])))
    assert (read_rgb(data) == 255).all()
    np.testing.assert_array_equal(read_decoded(data).rgb, rgb)
    np.testing.assert_array_equal(read_decoded(data).alpha, alpha)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "LA"])
def test_other_modes_become_rgb(mode, rgb):
    gray = Image.fromarray(np.full((4, 6), 255, dtype=np.uint8))
    form = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    levels = read_rgb(encoded(gray.convert("RGB").convert(mode) if mode != "1" else gray.convert("1"), form))
    assert levels.shape == (4, 6, 3)
    assert levels.min() >= 253


def test_profile_and_transparency_survive_a_round_trip(tmp_path, rgb):
    alpha = np.arange(35, dtype=np.uint8).reshape(5, 7)
    write_decoded(tmp_path / "a.png", DecodedImage(rgb, alpha, b"profile"))
    back = read_decoded(tmp_path / "a.png")
    np.testing.assert_array_equal(back.alpha, alpha)
    assert back.icc_profile == b"profile"


def test_half_transparency_is_rounded_to_the_nearest_level():
    # 10 * 100/255 + 255 * 155/255 = 158.92.
    pixel = np.array([[[10, 10, 10, 100]]], dtype=np.uint8)
    assert read_rgb(encoded(Image.fromarray(pixel))).ravel().tolist() == [159, 159, 159]


@pytest.mark.parametrize(("mode", "kept"), [("RGB", b"profile"), ("P", b"profile"), ("L", None), ("CMYK", None)])
def test_a_profile_is_kept_only_where_the_colours_are(mode, kept):
    form = "JPEG" if mode == "CMYK" else "PNG"
    data = encoded(Image.new("RGB", (4, 4), (9, 9, 9)).convert(mode), form, icc_profile=b"profile")
    assert read_decoded(data).icc_profile == kept


def test_a_camera_image_with_a_preview_is_read_as_the_image(rgb):
    smooth = Image.fromarray(np.full_like(rgb, 90))
    data = encoded(smooth, "MPO", save_all=True, append_images=[Image.new("RGB", (3, 3))])
    assert Image.open(BytesIO(data)).n_frames == 2
    np.testing.assert_allclose(read_rgb(data), 90, atol=2)


def test_more_pixels_than_the_limit_are_refused_before_they_are_decoded(monkeypatch):
    data = encoded(Image.new("L", (20, 10)))
    monkeypatch.setattr(limits, "MAX_PIXELS", 199)
    with pytest.raises(ValueError, match=r"20x10 pixels; the limit is 199"):
        read_rgb(data)
    monkeypatch.setattr(limits, "MAX_PIXELS", 200)
    assert read_rgb(data).shape == (10, 20, 3)


def test_jpeg_is_written_at_quality_95_unless_another_is_asked(tmp_path, rgb):
    write_image(tmp_path / "a.jpg", rgb)
    write_decoded(tmp_path / "b.jpg", DecodedImage(rgb), quality=60)
    for name, quality in (("a", 95), ("b", 60)):
        expected = Image.open(BytesIO(encoded(Image.fromarray(rgb), "JPEG", quality=quality)))
        with Image.open(tmp_path / f"{name}.jpg") as found:
            assert found.quantization == expected.quantization


def test_jpeg_drops_transparency(tmp_path, rgb):
    write_decoded(tmp_path / "a.jpg", DecodedImage(rgb, np.zeros((5, 7), np.uint8)))
    assert read_decoded(tmp_path / "a.jpg").alpha is None


def test_text_is_refused_by_name(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(ValueError, match=r"a\.png is not an image"):
        read_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_truncated_file_is_refused(form):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), form)
    with pytest.raises(ValueError, match="damaged"):
        read_rgb(data[: len(data) // 2])


def test_an_animation_is_refused(rgb):
    frames = [Image.fromarray(rgb), Image.fromarray(255 - rgb)]
    with pytest.raises(ValueError, match="2 images"):
        read_rgb(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))


def test_a_missing_file_is_reported_as_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_rgb(tmp_path / "none.png")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, rgb, monkeypatch):
    write_image(tmp_path / "a.png", rgb)
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_image(tmp_path / "a.png", 255 - rgb)
    monkeypatch.undo()
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), rgb)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_an_unknown_ending_names_the_known_ones(tmp_path, rgb):
    with pytest.raises(ValueError, match=r"\.bmp.*\.png"):
        write_image(tmp_path / "a.bmp", rgb)


def test_a_file_without_its_dimensions_is_a_value_error():
    empty_directory = b"II*\x00\x08\x00\x00\x00" + b"\x00" * 6
    with pytest.raises(ValueError, match="the image"):
        read_rgb(empty_directory)
