"""The network: residual convolutions at a quarter and an eighth of the resolution, no more than a million
multiplications for 25 pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from deblur.deconv.hybrid import FIELDS, GATE, IMAGES, PLACES, UNEXPLAINED

NEAR, FAR, DEEP = 48, 96, 5  # channels at a quarter and an eighth, blocks at an eighth
QUARTER = 4
SHUT = 0.02  # as far from 0 and 1 as the gate's weight is kept: from the very end no gradient would lead back
FINE, REST = 10.0, 5.0  # details and differences are small beside the light they are of
SOFT = 5  # pixels over which the weight is averaged: its steps from place to place must not show
CHANGE, OPENING, AROUND = 0.1, 4.0, 0.3  # scales of correction, weight and the pixels around
MIXED = 28  # planes that a correction may be mixed of


class Model(nn.Module):
    """(n, 21, y, x) images and (n, 10, y, x) fields to (n, 1, y, x) correction and weight; sides in multiples of 8.

    A place is reached from no more than `deblur.deconv.hybrid.REACH` pixels away: nothing is averaged over the whole.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(IMAGES * QUARTER**2 + 1 + FIELDS, NEAR, 3, padding=1)
        self.before = _Near()
        self.down = nn.Conv2d(NEAR, FAR, 2, stride=2)
        self.deep = nn.Sequential(*[_Far() for _ in range(DEEP)])
        self.up = nn.Conv2d(FAR, NEAR * 4, 1)
        self.after = _Near()
        self.leave = nn.Conv2d(NEAR, 2 * QUARTER**2, 3, padding=1)
        self.mix = nn.Conv2d(NEAR, MIXED, 3, padding=1)
        for last in (self.leave, self.mix):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, images: Tensor, fields: Tensor) -> tuple[Tensor, Tensor]:
        return self.reduced(images, functional.avg_pool2d(fields, QUARTER), fields[:, GATE : GATE + 1])

    def reduced(self, images: Tensor, fields: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """The same for fields that are means over 4 x 4 pixels already, and the gate's weight, (n, 1, y, x)."""
        details, mean = _conditioned(images)
        near = self.before(self.enter(torch.cat([details, mean - 0.5, fields], 1)))
        far = self.deep(self.down(near))
        near = self.after(near + functional.pixel_shuffle(self.up(far), 2))
        out = functional.pixel_shuffle(self.leave(near), QUARTER)
        correction = out[:, :1].float() * CHANGE + _mixed(images, self.mix(near).float())
        opening = functional.avg_pool2d(
            out[:, 1:], SOFT, stride=1, padding=SOFT // 2, count_include_pad=False
        )
        return correction, torch.sigmoid(opening * OPENING + torch.logit(gate, SHUT))


def _conditioned(images: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of 4 x 4 places as channels: the restored plane's details, what differs from the frame; and its means."""
    frame, restored, rest, following, previous, *along = images.split(1, 1)
    mean = functional.avg_pool2d(restored, QUARTER)
    details = restored - functional.interpolate(mean, scale_factor=QUARTER)
    there, rests = along[: len(PLACES)], along[len(PLACES) :]
    differences = [
        restored - frame,
        following - frame,
        previous - frame,
        *(plane - restored for plane in there),
    ]
    planes = [
        FINE * details,
        *(REST * plane for plane in (rest, *rests)),
        *(FINE * plane for plane in differences),
    ]
    return functional.pixel_unshuffle(torch.cat(planes, 1), QUARTER), mean


def _mixed(images: Tensor, shares: Tensor) -> Tensor:
    """A correction out of what is there, in shares (n, MIXED, y/4, x/4): the eight pixels around each, the frame, both
    neighbours, the restored plane along the path, and what is left unexplained here and there."""
    frame, restored, rest, following, previous, *along = images.split(1, 1)
    there, rests = along[: len(PLACES)], along[len(PLACES) :]
    height, width = restored.shape[-2:]
    around = functional.pad(restored, (1, 1, 1, 1), mode="replicate")
    planes = [
        AROUND * (around[..., y : y + height, x : x + width] - restored)
        for y in range(3)
        for x in range(3)
        if (y, x) != (1, 1)
    ]
    planes += [frame - restored, UNEXPLAINED * rest, following - frame, previous - frame]
    planes += [plane - restored for plane in there] + [UNEXPLAINED * plane for plane in rests]
    mixed = torch.zeros_like(restored)
    for plane, share in zip(
        planes, shares.split(1, 1), strict=True
    ):  # one by one: the runtime then holds few of them
        mixed = mixed + plane * functional.interpolate(share, scale_factor=QUARTER)
    return mixed


class _Near(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(NEAR, NEAR, 3, padding=1)
        self.second = nn.Conv2d(NEAR, NEAR, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.relu(self.first(x)))


class _Far(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.around = nn.Conv2d(FAR, FAR, 3, padding=1)
        self.widen = nn.Conv2d(FAR, 2 * FAR, 1)
        self.narrow = nn.Conv2d(2 * FAR, FAR, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(functional.relu(self.widen(functional.relu(self.around(x)))))
