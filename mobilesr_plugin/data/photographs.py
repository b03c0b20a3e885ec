"""The photographs that scikit-image ships inside its package, opened by path.

``skimage.data`` itself would look in a cache and may download; the files of these names lie in the wheel.
See https://scikit-image.org/docs/stable/api/skimage.data.html for their origins and licences.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesr_plugin.data.images import read_image
from mobilesr_plugin.errors import DataError

if TYPE_CHECKING:
    from mobilesr_plugin.data.bicubic import ImageU8


def photograph(name: str) -> ImageU8:
    """Read one of scikit-image's packaged photographs.

    Args:
        name: file name, for example ``chelsea.png``.

    Returns:
        (H, W, 3), RGB, uint8, [0, 255]; grey is expanded.

    Raises:
        DataError: scikit-image is not installed or does not ship this file.
    """
    # find_spec instead of import: importing scikit-image takes longer than reading all its pictures
    package = importlib.util.find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        raise DataError(
            "scikit-image is not installed, and its photographs are needed: pip install scikit-image"
        )
    path = Path(package.submodule_search_locations[0]) / "data" / name
    if not path.is_file():
        raise DataError(f"this scikit-image does not ship {name}: pip install -U 'scikit-image>=0.22'")
    return read_image(path)
