"""One picture file to an array, or one sentence on why not."""

from __future__ import annotations

import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MIN_SIDE = 16  # pixels; after the three halvings of a small network less leaves nothing
MAX_PIXELS = 40_000_000  # Pillow itself stops near 180 million: more than half a gigabyte each

DOWNLOAD_AGAIN = "copy or download it again, or delete it"
SAVE_AS_JPEG = "open it in any picture editor and save it as JPEG or PNG"


class PictureError(ValueError):
    """A picture file that cannot be used: `path`, `cause` and `fix` as attributes."""

    def __init__(self, path: str | Path, cause: str, fix: str):
        super().__init__(f"{path}: {cause}. Fix: {fix}.")
        self.path, self.cause, self.fix = Path(path), cause, fix

    def __reduce__(self):  # a worker process sends it; by itself, only the message would travel
        return PictureError, (self.path, self.cause, self.fix)


@contextmanager
def no_bomb_warning():
    """Silence Pillow's warning of a large picture: `open_header` has a lower limit and raises.

    Entered by whoever starts the work, never in a worker thread: the list of filters is global.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def open_header(path: Path):
    """The open Pillow picture, header checked, pixels not yet decoded."""
    from PIL import Image, UnidentifiedImageError

    too_large = f"it has more than {MAX_PIXELS // 1_000_000} megapixels", "make it smaller"
    try:
        image = Image.open(path, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(path, *too_large) from None
    except UnidentifiedImageError:
        raise PictureError(path, *_foreign(path)) from None
    except OSError as error:  # not there, a folder, not permitted
        cause = f"it cannot be opened ({error.strerror or error})"
        raise PictureError(path, cause, "check its path and permissions") from None
    except Exception as error:  # a damaged header can fail anywhere inside Pillow
        raise PictureError(path, f"its header is damaged ({error})", DOWNLOAD_AGAIN) from None
    width, height = image.size
    if width * height <= MAX_PIXELS and min(width, height) >= MIN_SIDE:
        return image
    image.close()
    if min(width, height) >= MIN_SIDE:
        raise PictureError(path, *too_large)
    cause = f"it is {width}x{height} pixels, below {MIN_SIDE} on a side"
    raise PictureError(path, cause, "use a larger picture, or delete it")


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) in pixels as the header states them; PictureError as `open_picture`."""
    with open_header(path) as image:
        return image.size


def _foreign(path: Path) -> tuple[str, str]:
    """Cause and fix for a file that Pillow does not know."""
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        return "the file is empty (0 bytes)", DOWNLOAD_AGAIN
    if start.lstrip().startswith(b"<"):
        return "it holds a web page, not a picture (a failed download)", DOWNLOAD_AGAIN
    return f"it is not a {', '.join(FORMATS)} picture, or its start is damaged", SAVE_AS_JPEG


def _to_rgb(image, format: str) -> np.ndarray:
    """(H, W, 3) uint8 of a decoded Pillow picture of any mode; ValueError if there is no way."""
    from PIL import Image

    # One number per pixel with more than eight bits: convert("RGB") would clip it to white.
    if image.mode.startswith("I;16") or (image.mode == "I" and format == "PNG"):
        grey = np.round(np.asarray(image).astype(np.float64) / 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "I":
        raise ValueError("it stores 32-bit whole numbers, whose white is unknown")
    if image.mode == "F":
        grey = np.asarray(image)
        low, high = float(grey.min()), float(grey.max())
        if not (low >= 0 and high <= 1):  # also true when there is a NaN
            raise ValueError(f"it stores floating-point values from {low:g} to {high:g}, not 0..1")
        return np.repeat(np.round(grey * 255).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:  # else the colour hidden under alpha 0 would show
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def read_picture(path: str | Path) -> tuple[np.ndarray, bool]:
    """As `open_picture`, and whether there were further frames or pages, which are left out."""
    from PIL import ImageOps

    path = Path(path)
    with open_header(path) as opened:
        image = opened
        try:
            several = bool(getattr(image, "is_animated", False))
            image.load()
        except Exception as error:  # truncated or damaged data can fail anywhere inside Pillow
            cause = f"it is cut short or damaged ({error})"
            raise PictureError(path, cause, DOWNLOAD_AGAIN) from None
        format = image.format  # lost when the picture is turned
        with suppress(Exception):  # an unreadable EXIF block says nothing about the pixels
            image = ImageOps.exif_transpose(image)
        try:
            array = _to_rgb(image, format)
        except ValueError as error:
            fix = "save it as an 8-bit JPEG or PNG"
            raise PictureError(path, str(error), fix) from None
    return array, several


def open_picture(path: str | Path) -> np.ndarray:
    """The picture at `path` as a uint8 array (H, W, 3), RGB, values 0..255, upright.

    Turned as its EXIF entry says; transparency on white; grey, palette, CMYK and 1-bit pictures
    become RGB; 16-bit grey is rescaled, and so are floating-point values if they lie in 0..1; of
    an animation or a document, the first frame or page.

    Raises PictureError (a ValueError) with the file, the cause and the fix: no such file, empty,
    cut short, another format than JPEG, PNG, WEBP, BMP, TIFF and GIF, more than 40 megapixels
    (found in the header, before decoding), or less than 16 pixels on a side.
    """
    with no_bomb_warning():
        return read_picture(path)[0]


def fit_picture(array: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W, 3) to (size, size, 3): short side resized to `size`, then the middle cut out.

    Bilinear with antialiasing. A picture that is already size x size comes back untouched.
    """
    from PIL import Image

    height, width = array.shape[:2]
    if (height, width) == (size, size):
        return array
    # The square is cut first and resized after: the same but for the outermost pixels, and cheaper.
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    image = Image.fromarray(np.ascontiguousarray(array[top : top + side, left : left + side]))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def read_fitted(path: str | Path, size: int) -> tuple[np.ndarray, bool]:
    """As `read_picture`, then `fit_picture`, channels first: uint8 (3, size, size)."""
    array, several = read_picture(path)
    return np.ascontiguousarray(fit_picture(array, size).transpose(2, 0, 1)), several
