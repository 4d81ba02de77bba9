"""Activation maximisation: draws a clip that maximises a class's odds, starting from noise.

Paper: Qiu et al., "Learning Spatio-Temporal Representation with Pseudo-3D Residual Networks", ICCV 2017,
section 4.3 and figure 5, by auduno's DeepDraw: gradient steps, each followed by a blur that decreases over
the steps; here frames are also blurred over time. Differs from DeepDraw: there is a single resolution, and
the class's odds against all others are maximised, since with its logit alone other classes' logits may rise
more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from transfer3d.errors import NonFiniteError, UsageError
from transfer3d.models.student import VideoStudent

GREY, NOISE = 0.5, 0.1
"""Mean and standard deviation of the initial clip's pixels, on a 0..1 scale."""
LAST_SHARE = 0.1
"""Fraction of step size and blur that remains in the last step; they decrease linearly."""
TIME, ROWS, COLUMNS = -3, -2, -1


@dataclass(frozen=True, kw_only=True)
class DrawConfig:
    """Options of the drawing.

    Attributes:
        steps: number of gradient ascent steps.
        step_size: mean change of a pixel in the first step, on a 0..1 scale.
        smooth_time: how far each frame is moved towards the mean of its neighbours in the first step, 0..1;
            0 = no smoothing.
        smooth_space: the same for rows and columns.
        jitter: maximum random shift before each step, as a share of the frame's side, so that the drawing
            does not depend on exact positions.
        seed: for noise and jitter.
    """

    steps: int = 256
    step_size: float = 0.1
    smooth_time: float = 0.5
    smooth_space: float = 0.5
    jitter: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "step_size"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name}={getattr(self, name)}: must be above 0.")
        for name in ("smooth_time", "smooth_space", "jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name}={getattr(self, name)}: give a number from 0 to 1.")


@dataclass(frozen=True)
class Drawing:
    """A drawn clip, and the student's scores for it.

    Attributes:
        clip_u8: C T H W, or U C T H W for a video-level student.
        noise_u8: the initial noise.
        logits: logits of the class, for the noise and for the clip.
        scores: the class's probability, for the noise and for the clip.
    """

    clip_u8: Tensor
    noise_u8: Tensor
    logits: tuple[float, float]
    scores: tuple[float, float]


def draw(
    student: VideoStudent,
    target: int,
    config: DrawConfig,
    *,
    each_step: Callable[[float], None] = lambda log_odds: None,
) -> Drawing:
    """Draws a clip that maximises a class; deterministic for a given seed.

    Args:
        student: with a classifier, on any device; run in eval mode; its mode is restored.
        target: the class.
        config: see `DrawConfig`.
        each_step: receives the log-odds of the clip before each step.

    Raises:
        UsageError: no such class, or it is the only one, so that it has no odds.
        NonFiniteError: the log-odds or their gradient are NaN or infinite.
    """
    if not 0 <= target < student.num_classes:
        raise UsageError(f"no class {target}: the student has {student.num_classes}, numbered from 0.")
    if student.num_classes < 2:
        raise UsageError(f"{student.model_name} has a single class: deepdraw needs at least two.")
    was_training = student.training
    student.eval()
    try:
        generator = torch.Generator().manual_seed(config.seed)
        noise_u8 = _noise(student, generator)
        clip_u8 = _to_u8(_ascend(student, target, noise_u8 / 255, config, generator, each_step))
        (before, score_before), (after, score_after) = (
            _class_score(student, clip, target) for clip in (noise_u8, clip_u8)
        )
    finally:
        student.train(was_training)
    return Drawing(clip_u8.cpu(), noise_u8.cpu(), (before, after), (score_before, score_after))


def blur(pixels: Tensor, axis: int, share: float) -> Tensor:
    """Interpolates pixels with the mean of their two neighbours along an axis, with weight `share`, 0..1.

    At the ends, the pixel itself replaces the missing neighbour.
    """
    before = torch.cat((pixels.narrow(axis, 0, 1), pixels.narrow(axis, 0, pixels.shape[axis] - 1)), axis)
    after = torch.cat((pixels.narrow(axis, 1, pixels.shape[axis] - 1), pixels.narrow(axis, -1, 1)), axis)
    return pixels.lerp((before + after) / 2, share)


def _noise(student: VideoStudent, generator: torch.Generator) -> Tensor:
    noise = torch.randn(student.clip.shape(1)[1:], generator=generator)
    return _to_u8(GREY + NOISE * noise).to(next(student.parameters()).device)


def _to_u8(pixels: Tensor) -> Tensor:
    return (255 * pixels.clamp(0, 1)).round().to(torch.uint8)


def _ascend(
    student: VideoStudent,
    target: int,
    noise: Tensor,
    config: DrawConfig,
    generator: torch.Generator,
    each_step: Callable[[float], None],
) -> Tensor:
    """Returns the clip, 0..1."""
    clip, shape = noise, (-1, 1, 1, 1)
    mean = torch.tensor(student.clip.mean, device=clip.device).view(shape)
    std = torch.tensor(student.clip.std, device=clip.device).view(shape)
    reach = round(config.jitter * student.clip.size)
    for step in range(config.steps):
        shift = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
        clip = clip.requires_grad_()
        seen = (clip.roll(shift, (ROWS, COLUMNS)) - mean) / std
        log_odds = _log_odds(student, student(seen[None])[0].float(), target)
        (gradient,) = torch.autograd.grad(log_odds, clip)
        if not (log_odds.isfinite() and gradient.isfinite().all()):
            raise NonFiniteError(
                f"{student.model_name}: step {step} is not finite. Check the checkpoint's weights."
            )
        each_step(log_odds.item())
        left = 1 - (1 - LAST_SHARE) * step / config.steps
        unit = gradient / gradient.abs().mean().clamp(min=torch.finfo(gradient.dtype).tiny)
        clip = clip.detach() + config.step_size * left * unit
        for axis, share in (
            (TIME, config.smooth_time),
            (ROWS, config.smooth_space),
            (COLUMNS, config.smooth_space),
        ):
            clip = blur(clip, axis, share * left)
        clip = clip.clamp(0, 1)
    return clip


def _log_odds(student: VideoStudent, logits_K: Tensor, target: int) -> Tensor:
    """Returns the class's log-odds against all others; for a multi-label student, its logit."""
    if student.multi_label:
        return logits_K[target]
    others = torch.cat((logits_K[:target], logits_K[target + 1 :]))
    return logits_K[target] - others.logsumexp(0)


@torch.no_grad()
def _class_score(student: VideoStudent, clip_u8: Tensor, target: int) -> tuple[float, float]:
    """Returns logit and probability of the class for a uint8 clip."""
    logits_K = student(clip_u8[None])[0].float()
    return float(logits_K[target]), float(student.probabilities(logits_K)[target])
