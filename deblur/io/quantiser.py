"""How coarsely a codec rounded a clip or picture: noise that isn't seen, since pixels are smooth where it is largest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

EXPORT = "venc_params"  # what a decoder must be asked for (`export_side_data`) to tell of it
FINEST, DOUBLED = 0.625, 6  # H.264's step at its parameter 0, and by how much more of it the step doubles
QUARTER = 16  # of JPEG's 64 steps: what the coarser ones round away is hardly there


def rounding(frames: Iterable[Any], *, bits: int) -> float | None:
    """Standard deviation of the rounding in decoded H.264 frames, as a share of the codes' range; None of other codecs.

    Of a step's even distribution, over all blocks: it is above what is really lost where coefficients are smaller than the
    step. Steps after Wiegand, Sullivan, Bjøntegaard & Luthra 2003 (doi:10.1109/TCSVT.2003.815165).
    """
    from av.sidedata.encparams import VideoEncParamsType
    from av.sidedata.sidedata import Type

    steps = []
    for frame in frames:
        told = frame.side_data.get(Type.VIDEO_ENC_PARAMS)
        if told is not None and told.codec_type == VideoEncParamsType.H264:
            steps.append(FINEST * 2 ** (told.qp_map().astype(np.float64) / DOUBLED))
    if not steps:
        return None
    return float(np.sqrt(np.mean(np.square(steps)) / 12) / (2**bits - 1))


def rounding_of_jpeg(tables: bytes) -> float:
    """The same of a JPEG, from its segment of quantisation tables (ITU-T T.81, B.2.4.1), the first of which is luma's."""
    wide = tables[0] >> 4  # 16-bit steps
    steps = np.frombuffer(tables[1:], ">u2" if wide else "u1", count=64).astype(np.float64)
    return float(np.sqrt(np.mean(np.sort(steps)[:QUARTER] ** 2) / 12) / 255)


def rounding_of_mjpeg(packet: bytes) -> float | None:
    """The same of Motion JPEG, from its first packet, which is a JPEG; None where that has no tables before its pixels."""
    place = 2
    while packet[place : place + 1] == b"\xff" and packet[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(packet[place + 2 : place + 4], "big")
        if packet[place + 1] == 0xDB and end - place >= 4 + 65:
            return rounding_of_jpeg(packet[place + 4 : end])
        place = end
    return None
