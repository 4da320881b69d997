"""Paths between two noise images: slerp along the sphere, lerp along the chord.

Gaussian noise of n numbers is close to the sphere of radius sqrt(n), and a diffusion model is trained on nothing else.
Between two independent noises, slerp stays close to the sphere; lerp leaves it and has 29 % less norm halfway.

A tensor of any shape is one point: all its numbers together. Pass one image, not a batch of several.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PARALLEL = 1e-6
"""Angle in radians below which the arc and the chord are the same to float64 rounding, and slerp returns lerp."""

Alphas = float | Sequence[float] | Tensor


def slerp(start: Tensor, end: Tensor, alpha: Alphas) -> Tensor:
    """Spherical linear interpolation (Shoemake 1985, "Animating rotation with quaternion curves", section 3.3)::

        sin((1 - alpha) theta) / sin(theta) * start + sin(alpha theta) / sin(theta) * end

    with theta the angle between the two.

    start, end: floating, one shape, dtype and device. alpha: a number, giving a tensor of that shape; or a sequence or
    1-D tensor of n numbers, giving (n, *shape). 0 and 1 return start and end exactly; outside [0, 1] the path
    continues around the same circle. The result has the inputs' dtype; angles and weights are float64.

    The result is `lerp` if theta is under 1e-6, and if start or end is all zeros, so that there is no angle.
    Raises ValueError for opposite points (theta within 1e-6 of pi: no arc between them is the shortest), for NaN and
    infinity, and for points that differ in shape, dtype or device.
    """
    alphas = _check(start, end, alpha)
    theta = angle_between(start, end)
    if theta < PARALLEL:  # and where there is no angle
        return _combine(start, end, 1 - alphas, alphas)
    if torch.pi - theta < PARALLEL:
        raise ValueError("start and end point in opposite directions: every arc between them is equally short")
    sin_theta = torch.tensor(theta, dtype=torch.float64).sin()
    return _combine(start, end, ((1 - alphas) * theta).sin() / sin_theta, (alphas * theta).sin() / sin_theta)


def lerp(start: Tensor, end: Tensor, alpha: Alphas) -> Tensor:
    """Linear interpolation, (1 - alpha) * start + alpha * end; arguments, result and errors as `slerp`."""
    alphas = _check(start, end, alpha)
    return _combine(start, end, 1 - alphas, alphas)


def angle_between(start: Tensor, end: Tensor) -> float:
    """Angle between two points seen from the origin, in radians, 0 .. pi; 0 if either is all zeros.

    2 atan2(|u - v|, |u + v|) for unit vectors u, v: exact to rounding also where arccos of the cosine is not, near 0
    and pi (Kahan 2006, "How futile are mindless assessments of roundoff", section 12).
    """
    u, v = start.double().flatten(), end.double().flatten()
    # Scaled by the largest entry first: the square of a very small or large number would leave float64's range.
    u, v = (
        u / u.abs().max().clamp_min(torch.finfo(u.dtype).tiny),
        v / v.abs().max().clamp_min(torch.finfo(v.dtype).tiny),
    )
    if not bool(u.any()) or not bool(v.any()):
        return 0.0
    u, v = u / u.norm(), v / v.norm()
    return 2 * float(torch.atan2((u - v).norm(), (u + v).norm()))


def _check(start: Tensor, end: Tensor, alpha: Alphas) -> Tensor:
    for what, a, b in (
        ("shape", tuple(start.shape), tuple(end.shape)),
        ("dtype", start.dtype, end.dtype),
        ("device", start.device, end.device),
    ):
        if a != b:
            raise ValueError(f"start and end must have the same {what}, got {a} and {b}")
    if not start.is_floating_point() or start.numel() == 0:
        raise ValueError(f"points must be floating and not empty, got {start.dtype} {tuple(start.shape)}")
    alphas = torch.as_tensor(alpha, dtype=torch.float64, device=start.device)
    if alphas.ndim > 1:
        raise ValueError(f"alpha must be a number or one row of numbers, got shape {tuple(alphas.shape)}")
    for what, values in (("start", start), ("end", end), ("alpha", alphas)):
        if not bool(values.isfinite().all()):
            raise ValueError(f"{what} must be finite, found NaN or infinity")
    return alphas


def _combine(start: Tensor, end: Tensor, start_weights: Tensor, end_weights: Tensor) -> Tensor:
    """start_weights, end_weights: () or (n,) float64; gives start's shape or (n, *shape)."""
    shape = (*start_weights.shape, *[1] * start.ndim)
    path = start_weights.reshape(shape) * start.double() + end_weights.reshape(shape) * end.double()
    return path.reshape(*start_weights.shape, *start.shape).to(start.dtype)
