"""Draws a clip that maximises a class, as an animation and a film strip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from transfer3d.files import atomic_path
from transfer3d.insight.deepdraw import DrawConfig, draw
from transfer3d.insight.pictures.animation import check_animation_path, write_animation
from transfer3d.insight.pictures.film import motion, strip
from transfer3d.insight.pictures.flow_colours import as_rgb
from transfer3d.progress import progress
from transfer3d.run.inference.session import inference_session

FPS = 8


def draw_class(file: Path, target: str, config: DrawConfig, *, out: Path, console: Console) -> dict[str, Any]:
    """Writes the drawn clip to `out`, and its film strip beside it, as PNG.

    Args:
        file: checkpoint with a classifier.
        target: name of the class.
        config: DeepDraw settings.
        out: ends in .gif or .mp4.
        console: for progress.

    Returns:
        The class's logit and probability for the noise and for the drawing, and the paths of the images.

    Raises:
        UsageError: no such class, or only one; or `out` is not an animation.
        WeightsError: the checkpoint is invalid, or has no classifier.
        NonFiniteError: the logit or its gradient is not finite.
        SetupError: `out` cannot be written.
    """
    check_animation_path(out)
    with inference_session(file, console=console) as session:
        student, number = session.student, session.class_index(target)
        with progress("drawing", config.steps, console=console) as meter:
            drawing = draw(
                student, number, config, each_step=lambda odds: meter.update(note=f"log-odds {odds:.1f}")
            )
    pixels = as_rgb(drawing.clip_u8.numpy())
    rows = {"": pixels} if pixels.ndim == 4 else {f"unit {u}": clip for u, clip in enumerate(pixels)}
    clips = {name: clip.transpose(1, 2, 3, 0) for name, clip in rows.items()}
    title = f"what {student.model_name} takes for {target} ({drawing.scores[1]:.1%})"
    film = motion({name: (clip,) for name, clip in clips.items()}, ("",), title=title)
    write_animation(out, list(film), fps=FPS)
    picture = out.with_suffix(".png")
    with atomic_path(picture) as partial:
        partial.write_bytes(strip(clips, title=title))
    return {
        "class": target,
        "logit": {"noise": drawing.logits[0], "drawing": drawing.logits[1]},
        "score": {"noise": drawing.scores[0], "drawing": drawing.scores[1]},
        "film": str(out),
        "strip": str(picture),
    }
