"""Where on the Earth a TIFF's pixels lie: its GeoTIFF tags, understood as far as scale and reference system, else copied.

OGC 19-008r4, https://docs.ogc.org/is/19-008r4/19-008r4.html; tags 42112 and 42113 are GDAL's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deblur.errors import ReadError

# as tifffile writes it: code, type, count, value, in the first page only
Extra = tuple[int, int, int, Any, bool]
SCALE = 33550
TAGS = (SCALE, 33922, 34264, 34735, 34736, 34737, 42112, 42113)
PROJECTED, GEOGRAPHIC = 1, 2
UNITS = {9001: "m", 9002: "foot", 9003: "foot"}
STATISTICS = re.compile(r'\s*<Item name="STATISTICS_[^<]*</Item>')  # of pixels that are no more
TEXT = 2


def geo_notes(page: Any) -> dict[str, Any]:
    """For a header's metadata: `crs`, as "EPSG:32632", and `geotiff`, the tags; nothing where a page has none."""
    tags = [_plain(page.tags[code]) for code in TAGS if code in page.tags]
    if not any(code == SCALE or code // 1000 in (33, 34) for code, *_ in tags):
        return {}
    crs = _crs(page.geotiff_tags or {})
    return {"geotiff": tags} | ({"crs": crs} if crs else {})


def ground_size(page: Any) -> tuple[float, float, str] | None:
    """(y, x, unit) of a pixel on the ground, where the tags tell."""
    keys = page.geotiff_tags or {}
    scale = keys.get("ModelPixelScale")
    kind = int(keys.get("GTModelTypeGeoKey", 0))
    unit = "deg" if kind == GEOGRAPHIC else UNITS.get(int(keys.get("ProjLinearUnitsGeoKey", 0)), "")
    if not scale or not unit or min(scale[:2]) <= 0:
        return None
    return float(scale[1]), float(scale[0]), unit


def geo_tags(metadata: Mapping[str, Any], original: Path | None) -> Sequence[Extra]:
    """The tags to write: those of the picture that a frame came from, else of the file of all frames."""
    import tifffile

    from deblur.io.tiff import open_pages

    told = metadata.get("geotiff", ())
    if original is not None:
        try:
            with open_pages(original) as tif:
                told = geo_notes(tif.pages[0]).get("geotiff", told)
        except (ReadError, tifffile.TiffFileError):
            pass  # it is gone, or no TIFF: nothing better is known
    return [
        (code, kind, count, value.encode() if kind == TEXT else tuple(value), False)
        for code, kind, count, value in told
    ]


def _plain(tag: Any) -> list[Any]:
    """[code, type, count, value], JSON-able."""
    if int(tag.dtype) == TEXT:
        text = STATISTICS.sub("", str(tag.value))
        return [int(tag.code), TEXT, 0, text]
    value = tag.value if isinstance(tag.value, tuple) else (tag.value,)
    return [int(tag.code), int(tag.dtype), int(tag.count), list(value)]


def _crs(keys: Mapping[str, Any]) -> str:
    names = {PROJECTED: "ProjectedCSTypeGeoKey", GEOGRAPHIC: "GeographicTypeGeoKey"}
    code = int(keys.get(names.get(int(keys.get("GTModelTypeGeoKey", 0)), ""), 0))
    return f"EPSG:{code}" if 1024 <= code < 32767 else ""
