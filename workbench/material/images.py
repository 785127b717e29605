"""Images from a stranger's folder, opened so that nothing bad can come of it.

1. A file is an image if Pillow reads it whole in one of `FORMATS`; its name does not matter.
   Formats whose readers call other programs are left out.
2. Sizes are read from the header before anything is unpacked: more than `PIXELS` is refused, so a
   small file that unpacks to gigabytes is too. So is a file of more than `BYTES`, and a side longer
   than `RATIO` times the other, which no model can look at.
3. The picture is turned as its camera says, transparency laid on white, and handed on in RGB.
4. An image is known by the SHA-256 of its file (`feature_store.files.digest`): a copy is the same
   image, a changed file another.

What is refused is a `BadInput` with the reason; the reader of a folder counts them. Left out:
video, animation beyond the first frame, SVG.
"""

import base64
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from feature_store.errors import BadInput, NotFound

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are read; a file's first bytes say its format."""
PIXELS = 64 * 2**20
"""Most pixels of an image."""
BYTES = 100 * 2**20
"""Largest file [bytes]."""
RATIO = 200
"""Longest side over the shortest."""


def open_image(file: str | Path) -> Image.Image:
    """Open an image in RGB, turned upright and on white.

    Raises NotFound where there is no such file, BadInput with the reason where it is refused.
    """
    file = Path(file)
    if not file.is_file():
        raise NotFound(
            f"There is no image {file}. It was moved or removed; restore it, or index the folder"
            " again."
        )
    if (size := file.stat().st_size) > BYTES:
        raise BadInput(
            f"{file.name} has {size / 2**20:.0f} MiB, at most {BYTES / 2**20:.0f} are read. Save it"
            " smaller."
        )
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images; the limit below is ours.
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as opened:
                _check_size(file, *opened.size)
                return _upright_on_white(opened)
    except BadInput:
        raise
    except Image.DecompressionBombError:
        raise BadInput(
            f"{file.name} unpacks to more than {PIXELS} pixels. Save it smaller."
        ) from None
    except Image.UnidentifiedImageError:
        raise BadInput(f"{file.name} is no image in {', '.join(FORMATS)}.") from None
    # Pillow's readers raise a dozen kinds on a torn file: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise BadInput(
            f"{file.name} is broken: {' '.join(str(error).split())[:120] or type(error).__name__}."
        ) from None


def _check_size(file: Path, width: int, height: int) -> None:
    """Refuse an image that is too large or too narrow, by its header alone [pixels]."""
    if width * height > PIXELS:
        raise BadInput(
            f"{file.name} unpacks to {width} x {height} pixels, at most {PIXELS} are"
            " read. Save it smaller."
        )
    if max(width, height) > RATIO * min(width, height):
        raise BadInput(
            f"{file.name} is {width} x {height} pixels, too narrow to be looked at. Crop it."
        )


def _upright_on_white(picture: Image.Image) -> Image.Image:
    """Turn a picture as its camera says, and lay transparency on white."""
    turned = ImageOps.exif_transpose(picture)
    if "A" in turned.getbands() or "transparency" in turned.info:
        clear = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return turned.convert("RGB")


def data_uri(file: str | Path) -> str:
    """Write an image as an address that carries the whole file, after checking it."""
    open_image(file)
    with Image.open(file, formats=FORMATS) as opened:
        kind = Image.MIME[opened.format or "PNG"]
    return f"data:{kind};base64,{base64.b64encode(Path(file).read_bytes()).decode()}"
