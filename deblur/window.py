"""One window of one frame, restored with the motion to its neighbours: arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from deblur import deconv, paths, quality
from deblur.deconv.hybrid import OPEN, PLACES, REACH, Evidence, Refiner, explained, root, way_to
from deblur.deconv.model import AlongPath, Jointly, Solver
from deblur.deconv.network import shipped
from deblur.errors import ConfigError
from deblur.motion.warping import warp
from deblur.neighbours import NEXT, PREVIOUS, Look, Neighbour, brought, look, trust_in
from deblur.types import Bool, Bytes, Float, Iterations, Reason

NUMERICS_VERSION = 5
JOINT = 0.005  # noise from which neighbours are restored from together: without it they gain little for their cost
UNEVEN, STRONGEST = 0.2, 0.27  # shares of the path (`certainty`)
LEAST_TRUST = 0.07  # where the motion is unsure the prior decides, but not alone


@dataclass(frozen=True, slots=True)
class RestoreSettings:
    """All numbers of the last stage. `iterations`, `regularisation`: None takes the method's own.

    `strength`: what every weight is multiplied by, in [0, 1]; at 0 the source comes back bit for bit. `network`: of the
    method "hybrid", the identity (`deblur.deconv.network`) of its weights, for the record; `provider`: what it is
    computed with. Raises ConfigError beyond.
    """

    method: str = "variational"
    iterations: int | None = None
    regularisation: float | None = None
    strength: float = 1.0
    network: str | None = None
    provider: str = "CPU"

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"strength is {self.strength}: it must be from 0 to 1")

    def solver(self) -> Solver:
        """The method with these settings. Raises ConfigError when it is unknown."""
        return deconv.solver(self.method, iterations=self.iterations, regularisation=self.regularisation)


@dataclass(frozen=True, slots=True)
class RestoredWindow:
    """`image`: (c, y, x) linear light; `weight`: (y, x) in [0, 1]; `reason`: (y, x) uint8, see `Reason`; `learned`: of
    the method "hybrid", (y, x), what of the change is the network's doing, as square roots of light, mean of planes."""

    image: Float
    weight: Float
    reason: Bytes
    iterations: Iterations
    learned: Float | None = None


def restore_halo(settings: RestoreSettings, longest_path: float) -> int:
    """Pixels that a window must read beyond its core so that it agrees with the whole frame.

    `longest_path`: pixels. A solver step carries news one path further, but it fades: on real frames whose
    longest path was 99 px, 64 px left 99.9 % of a core within 1/255 and all of it within 1.4/255; 128 px, all
    within 0.2. Looking up a neighbour's motion reaches as far as the motion itself: the caller adds that.
    """
    steps = settings.solver().iterations
    seen = REACH if settings.method == "hybrid" else 0
    return 32 + seen + int(np.ceil(max(0.0, longest_path) * max(1.0, (steps / 15) ** 0.5)))


def restore_window(
    frame: Float,
    neighbours: tuple[Neighbour, ...],
    *,
    noise: float,
    settings: RestoreSettings,
    invalid: Bool | None = None,
    bend: tuple[float, float] = (0.0, 0.0),
    unsteady: float = 1.0,
    row_time: float = 0.0,
    network: Refiner | None = None,
) -> RestoredWindow:
    """Restore one window of one frame with the motion to its neighbours.

    `frame`: (c, y, x) linear light; `noise`: its standard deviation, decided once for the frame; `invalid`:
    (y, x), pixels without meaning; `bend`: (dy, dx), what both ends of the path gain over its middle;
    `unsteady`: `Survey.unsteady` of the frame; `row_time`: as for `deblur.paths.exposure_path`, for a rolling shutter;
    `network`: of the method "hybrid", the shipped one if not given.
    Without a neighbour the frame comes back with weight 0. Raises
    ConfigError for an unknown method, NumericsError when the solver leaves the finite numbers.

    >>> flat, still = np.full((1, 16, 16), 0.5, np.float32), np.zeros((2, 16, 16), np.float32)
    >>> beside = Neighbour(flat, motion=still, back=still, scale=0.5)
    >>> restore_window(flat, (beside,), noise=0.0, settings=RestoreSettings()).weight.max()
    np.float32(0.0)
    """
    shape = frame.shape[1:]
    if not neighbours:
        reason = np.full(shape, Reason.NO_NEIGHBOUR, np.uint8)
        return RestoredWindow(frame.copy(), np.zeros(shape, np.float32), reason, Iterations(0, 0.0, 0.0))
    given = _Given(frame, noise, invalid, bend, unsteady, row_time)
    found = _solved(given, neighbours, settings.solver())
    image, again, weight, reason = _judged(given, found, found.planes)
    physics = RestoredWindow(image, weight * np.float32(settings.strength), reason, found.record)
    if settings.method != "hybrid":
        return physics
    seen = _evidence(given, neighbours, found, image, again, weight)
    refined = _refined(seen, found.model, reason, network or shipped(settings.provider), settings.strength)
    learned = np.asarray((_merged(frame, refined) - _merged(frame, physics)).mean(axis=0), np.float32)
    return replace(refined, iterations=found.record, learned=learned)


@dataclass(frozen=True, slots=True)
class _Given:
    """What is known of the frame of a window: the arguments of `restore_window`."""

    frame: Float
    noise: float
    invalid: Bool | None
    bend: tuple[float, float]
    unsteady: float
    row_time: float


@dataclass(frozen=True, slots=True)
class _Solved:
    """`planes`: (c, y, x) restored, not yet held; `sure`: (k, y, x), trust in the motion to each neighbour."""

    model: AlongPath
    path: Float
    sure: Float
    planes: Float
    record: Iterations


def _solved(given: _Given, neighbours: tuple[Neighbour, ...], chosen: Solver) -> _Solved:
    frame, noise = given.frame, given.noise
    sure = [trust_in(n.motion, n.back, n.scale, n.turned) for n in neighbours]
    path = paths.exposure_path(
        [n.motion for n in neighbours],
        [n.scale for n in neighbours],
        sure,
        [n.lack for n in neighbours],
        row_time=given.row_time,
    )
    path = paths.bent(path, given.bend)
    model = AlongPath(path)
    unknown = quality.clipped_at(frame, quality.Gate())
    if given.invalid is not None:
        unknown |= given.invalid
    best = np.max(sure, axis=0)
    trust = np.maximum(best, np.float32(LEAST_TRUST))
    trust[unknown] = 0
    seen = frame if given.invalid is None else np.where(given.invalid, np.float32(0), frame)
    looks = [Look(np.ascontiguousarray(seen), model, trust)]
    if noise >= JOINT:
        looks += [look(seen, model, n, s, noise=noise) for n, s in zip(neighbours, sure, strict=True)]
    scene = Jointly([each.model for each in looks])
    trusts = certainty(given.unsteady) * np.stack([each.trust for each in looks])
    records, planes = [], []
    for stack in np.stack([each.planes for each in looks], axis=1):
        restored, record = chosen.solve(stack, scene, noise=noise, trust=trusts)
        planes.append(restored)
        records.append(record)
    worst = max(records, key=lambda record: record.change)
    return _Solved(model, path, np.stack(sure), np.stack(planes), worst)


def _judged(given: _Given, found: _Solved, planes: Float) -> tuple[Float, Float, Float, Bytes]:
    """Restored planes held near the source's range, the same blurred again, and the gate's weight and reason."""
    frame, noise, rules = given.frame, given.noise, quality.Gate()
    image, beyond = quality.held(frame, planes, noise=noise, rules=rules)
    again = np.stack([found.model.apply(plane) for plane in image])
    weight, reason = quality.gate(
        frame,
        image,
        again,
        found.path,
        found.sure.max(axis=0),
        beyond,
        noise=noise,
        invalid=given.invalid,
        rules=rules,
    )
    return image, again, weight, reason


def _evidence(
    given: _Given,
    neighbours: tuple[Neighbour, ...],
    found: _Solved,
    image: Float,
    again: Float,
    weight: Float,
) -> Evidence:
    beside = np.repeat(given.frame[None], 2, axis=0)
    trusts = np.zeros((2, *weight.shape), np.float32)
    for n, sure in zip(neighbours, found.sure, strict=True):
        at = NEXT if n.scale > 0 else PREVIOUS
        beside[at], inside = brought(n)
        trusts[at] = np.where(inside, sure, np.float32(0))
    limit = quality.limit(given.frame, found.path, invalid=given.invalid, rules=quality.Gate())
    here = explained(given.frame, image, again)

    def along(channel: int) -> Float:
        there = np.empty((2, len(PLACES), *weight.shape), np.float32)
        for at, place in enumerate(PLACES):
            way = way_to(found.path, place)
            for kind in range(2):
                there[kind, at] = warp(here[kind, channel], way)[0]
        return there

    return Evidence(given.frame, image, again, along, beside, found.path, trusts, weight, limit, given.noise)


def _refined(
    seen: Evidence, model: AlongPath, reason: Bytes, network: Refiner, strength: float
) -> RestoredWindow:
    """What the network makes of it, held and limited as physics is, and taken at its word where that explains the frame."""
    rules = quality.Gate()
    planes, weight = network.refine(seen)
    image, _ = quality.held(seen.frame, planes, noise=seen.noise, rules=rules)
    again = np.stack([model.apply(plane) for plane in image])
    believed = quality.agreement(seen.frame, seen.again, again, noise=seen.noise, rules=rules)
    image = np.asarray(seen.restored + believed * (image - seen.restored), np.float32)
    weight = np.minimum(weight, np.minimum(seen.limit, np.float32(OPEN) * seen.weight))
    weight[weight < 1 / 64] = 0
    reason = reason.copy()
    reason[(weight >= 0.5) & (seen.weight < 0.5)] = Reason.RESTORED
    reason[(weight < 0.5) & (seen.weight >= 0.5)] = Reason.LEARNED
    return RestoredWindow(image, weight * np.float32(strength), reason, Iterations(0, 0.0, 0.0))


def _merged(frame: Float, found: RestoredWindow) -> Float:
    return root(frame + found.weight * (found.image - frame))


def certainty(unsteady: float) -> np.float32:
    """How much more the data count than on a frame whose path is in doubt, where only the prior can help (`doubt`).

    Even speed makes paths exact, and an exact path bears a weak prior: a steady pan gained 2 dB from it, shaking
    hands lost nothing.
    """
    if unsteady >= 1:
        return np.float32(1)
    return np.float32(1 / min(max(unsteady / UNEVEN, STRONGEST), 0.6))
