"""`shapes10`: ten silhouettes, drawn by arithmetic, as small colour pictures.

Every picture is drawn from signed distances: a function gives each pixel centre its distance to
the outline (negative inside), and the distance in pixels gives a soft edge. The distance to the
star follows Inigo Quilez, "2D distance functions", https://iquilezles.org/articles/distfunctions2d/
"""

from __future__ import annotations

import numpy as np
import torch

from .core import Data, Split, mix, must_fit_memory

CLASSES = ["disc", "ring", "square", "triangle", "plus", "star", "crescent", "bar", "L", "T"]
CHUNK = 500  # pictures drawn at once: the arrays stay in the processor's cache
LUMA = (0.299, 0.587, 0.114)


# Outlines, about one unit in radius; u to the right, v downwards.
def _disc(u, v, radius):
    return np.sqrt(u * u + v * v) - radius


def _box(u, v, x0, x1, y0, y1):
    return np.maximum(
        np.abs(u - (x0 + x1) / 2) - (x1 - x0) / 2, np.abs(v - (y0 + y1) / 2) - (y1 - y0) / 2
    )


def _triangle(u, v):
    slope = 0.866 * np.abs(u) - 0.5 * v
    return np.maximum(slope - 0.42, v - 0.62)


def _star(u, v, radius=1.05, waist=0.45):
    kx, ky = 0.809016994375, -0.587785252292
    u, v = np.abs(u), -v
    for sign in (1, -1):  # fold the five points onto one
        over = 2 * np.maximum(sign * kx * u + ky * v, 0)
        u, v = u - over * (sign * kx), v - over * ky
    u, v = np.abs(u), v - radius
    bx, by = -waist * ky, waist * kx - 1
    along = np.clip((u * bx + v * by) / (bx * bx + by * by), 0, radius)
    du, dv = u - bx * along, v - by * along
    return np.sqrt(du * du + dv * dv) * np.sign(v * bx - u * by)


OUTLINES = {
    "disc": lambda u, v: _disc(u, v, 0.88),
    "ring": lambda u, v: np.abs(_disc(u, v, 0.68)) - 0.22,
    "square": lambda u, v: _box(u, v, -0.75, 0.75, -0.75, 0.75),
    "triangle": _triangle,
    "plus": lambda u, v: np.minimum(
        _box(u, v, -0.9, 0.9, -0.27, 0.27), _box(u, v, -0.27, 0.27, -0.9, 0.9)
    ),
    "star": _star,
    "crescent": lambda u, v: np.maximum(_disc(u + 0.1, v, 0.92), 0.78 - _disc(u - 0.35, v, 0)),
    "bar": lambda u, v: _box(u, v, -1.0, 1.0, -0.25, 0.25),
    "L": lambda u, v: np.minimum(
        _box(u, v, -0.65, -0.13, -0.9, 0.9), _box(u, v, -0.65, 0.65, 0.4, 0.9)
    ),
    "T": lambda u, v: np.minimum(
        _box(u, v, -0.8, 0.8, -0.9, -0.4), _box(u, v, -0.26, 0.26, -0.9, 0.9)
    ),
}


def _chunk(seed: int, part: str, number: int, size: int, rotation: float):
    """Chunk `number`: pictures uint8 (CHUNK, 3, size, size) and labels int64 (CHUNK,).

    To be the same on every machine, pixels are computed by the operations that IEEE 754 fixes to
    the last bit (no sine, no exponential, no BLAS), and sines of angles are rounded first.
    """
    rng = np.random.default_rng(mix("shapes10", seed, part, number))
    n = CHUNK

    def draw(low, high, *shape):  # one number per picture by default, ready to broadcast
        unit = rng.random((n, *(shape or (1, 1))), dtype=np.float32)
        return low + (high - low) * unit

    def direction(angle):  # cosine and sine, exact multiples of 2**-14
        pair = np.cos(angle.astype(np.float64)), np.sin(angle.astype(np.float64))
        return [(np.round(v * 2**14) / 2**14).astype(np.float32) for v in pair]

    def wave(frequency, angle, phase):  # soft stripes across the picture, 0..1
        cx, cy = direction(angle)
        t = (cx * x + cy * y) * frequency + phase
        return np.clip(3 * np.abs(2 * (t - np.floor(t)) - 1) - 1, 0, 1)

    def colour(luminance, chroma):  # (n, 3, 1, 1): a random hue that keeps the luminance
        c = draw(-1, 1, 3, 1)
        grey = c[:, 0] * LUMA[0] + c[:, 1] * LUMA[1] + c[:, 2] * LUMA[2]
        return np.clip(luminance + chroma * (c - grey[:, None]), 0, 1)[..., None]

    def paint(colours, cover):
        picture[:] += cover[:, None] * (colours - picture)

    # Each ten pictures in a row hold every class once, so any length is balanced.
    labels = rng.permuted(np.tile(np.arange(10), (n // 10, 1)), axis=1).reshape(-1)
    axis = ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)
    x, y = axis[None, None, :], axis[None, :, None]
    half = size / 2  # pixels in one unit
    turn = 2 * np.pi

    # Background: two close colours, as a gradient or as stripes.
    level, lift = draw(0.2, 0.8), draw(-0.1, 0.1)
    first = colour((level + lift)[:, :, 0, None], 0.28)
    second = colour((level - lift)[:, :, 0, None], 0.28)
    cx, cy = direction(draw(0, turn))
    ramp = np.clip(0.5 + 0.45 * (cx * x + cy * y), 0, 1)
    stripes = wave(draw(1.2, 3.2), draw(0, turn), draw(0, 1))
    cover = np.where(draw(0, 1) < 0.5, ramp, stripes)
    picture = first + cover[:, None] * (second - first)

    # Clutter: up to three small discs beneath the shape.
    for _ in range(3):
        present = draw(0, 1) < 0.5
        radius = draw(0.06, 0.16)
        dx, dy = x - draw(-1, 1), y - draw(-1, 1)
        spot = np.clip(0.5 - _disc(dx, dy, radius) * half, 0, 1)
        paint(colour(draw(0.1, 0.9), 0.4), spot * present)

    # The shape, lighter or darker than its ground by a known contrast, faintly striped.
    cx, cy = direction(draw(-1, 1) * (rotation * np.pi / 180))
    scale, aspect = draw(0.5, 0.8), draw(0.85, 1.15)
    dx, dy = x - draw(-0.22, 0.22), y - draw(-0.22, 0.22)
    u = (cx * dx + cy * dy) / (scale * aspect)
    v = (cx * dy - cy * dx) / scale
    outline = np.empty_like(u)
    for k, name in enumerate(CLASSES):
        members = labels == k
        outline[members] = OUTLINES[name](u[members], v[members])
    contrast = draw(0.22, 0.48) * np.where(level < draw(0.42, 0.58), 1, -1).astype(np.float32)
    body = colour((level + contrast)[:, :, 0, None], 0.45)
    grain = wave(draw(2, 4), draw(0, turn), draw(0, 1)) * draw(0, 0.16)
    body = body + (grain[:, None] - 0.06) * np.sign(-contrast)[:, None]
    paint(body, np.clip(0.5 - outline * (scale * half), 0, 1))

    # A small rectangle in front of two shapes in five.
    present = draw(0, 1) < 0.4
    wide, high = draw(0.1, 0.32), draw(0.08, 0.22)
    dx, dy = np.abs(x - draw(-0.7, 0.7)) - wide, np.abs(y - draw(-0.7, 0.7)) - high
    block = np.clip(0.5 - np.maximum(dx, dy) * half, 0, 1)
    paint(colour(draw(0.1, 0.9), 0.4), block * present)

    # Light from one side, then noise (a sum of two uniform numbers).
    cx, cy = direction(draw(0, turn))
    picture *= (1 + draw(0, 0.22) * (cx * x + cy * y))[:, None]
    noise = rng.random(picture.shape, dtype=np.float32)
    noise += rng.random(picture.shape, dtype=np.float32)
    noise -= 1
    noise *= draw(0.01, 0.08)[:, None]
    picture += noise
    np.clip(picture, 0, 1, out=picture)
    return (picture * 255 + 0.5).astype(np.uint8), labels


def _split(count: int, seed: int, part: str, size: int, rotation: float) -> Split:
    chunks = [_chunk(seed, part, k, size, rotation) for k in range(-(-count // CHUNK))]
    pictures, labels = (np.concatenate(arrays)[:count] for arrays in zip(*chunks, strict=True))
    return Split(torch.from_numpy(pictures), torch.from_numpy(labels.astype(np.int64)))


def shapes10(
    n_train: int = 7000,
    n_test: int = 1000,
    *,
    size: int = 32,
    rotation: float = 30.0,
    seed: int = 0,
) -> Data:
    """Ten silhouettes on busy backgrounds, uint8 (N, 3, size, size); no network, two seconds.

    disc, ring, square, triangle, plus, star, crescent, bar, L and T: turned by up to ±`rotation`
    degrees, 50 to 80 % of the half width in size, moved, stretched, striped, cluttered, partly
    hidden, lit from one side, with noise. Colour says nothing about the class.

    The same on every machine for the same `seed`; test pictures come from a stream of their own,
    and the first n pictures do not depend on how many are asked for. Raises ValueError for fewer
    than ten pictures in a part (one of each class), a size below 8 px or one at which the
    set takes more than 2 GiB, or a rotation outside 0..180. Source: drawn by this module.
    """
    if min(n_train, n_test) < len(CLASSES):
        raise ValueError(f"n_train={n_train}, n_test={n_test}: wanted at least 10 of each")
    if size < 8:
        raise ValueError(f"size is {size}; below 8 px the shapes cannot be told apart")
    # However few are asked for, a whole chunk is drawn, in numbers of four bytes.
    must_fit_memory("shapes10", max(n_train + n_test, 4 * CHUNK), 3, size)
    if not 0 <= rotation <= 180:
        raise ValueError(f"rotation is {rotation}; wanted degrees from 0 to 180")
    return Data(
        name="shapes10",
        classes=list(CLASSES),
        train=_split(n_train, seed, "train", size, rotation),
        test=_split(n_test, seed, "test", size, rotation),
        source=f"Procedural {size}x{size} pictures, rotated by up to {rotation:g} degrees.",
    )
