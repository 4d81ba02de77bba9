"""Chooses the default student for a teacher when the recipe names none."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from transfer3d.errors import UsageError
from transfer3d.inflation.inflation import CROP_MARGIN
from transfer3d.inflation.source import read_source, spec_types
from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model, image_model_info
from transfer3d.models.registry import entry, list_models
from transfer3d.models.student import VideoStudent
from transfer3d.models.trunks.timm_spec import SwinSpec, TimmSpec, ViTSpec
from transfer3d.nn.on_meta import on_meta
from transfer3d.recipes.schema import ClipConfig, Recipe

FAMILIES = ("p3d", "t3d", "i3d", "timesformer", "video_swin")
"""Order of preference if several students are inflated from a teacher."""
SHAPES = (("i3d", TimmSpec), ("timesformer", ViTSpec), ("video_swin", SwinSpec))
"""Families that support any network of a kind; TimeSformer is cheaper than ViViT, whose clips are longer."""
OTHERWISE, SMALL = "p3d_resnet18", ClipConfig(size=112, crop=128)
"""For teachers that cannot be inflated: a ResNet-18 with the usual clips of 3D ResNets."""


def with_paired_student(recipe: Recipe) -> Recipe:
    """Returns the recipe with the default student of its teacher, with random weights.

    This is the registered student that is inflated from it (densenet121 -> t3d_densenet121, resnet50 ->
    p3d_resnet50). Otherwise it is the result of `inflate --to i3d`, of `--to timesformer` for a vision
    transformer or of `--to video_swin` for a Swin transformer, with the teacher's frame size; if no family
    supports the network, `OTHERWISE`. The recipe's own clip and arguments take precedence.

    Args:
        recipe: names a timm model as teacher.

    Raises:
        UsageError: timm has no such model.
    """
    teacher = recipe.require("teacher")
    base = teacher.split(".")[0]
    for family in FAMILIES:
        for name in list_models(family=family):
            if entry(name).source == base:
                return recipe.model_copy(update={"student": name})
    found, size = _inflatable(teacher)
    if found is None:
        return _completed(recipe, OTHERWISE, {}, SMALL)
    family, spec = found
    return _completed(recipe, family, {"spec": spec}, ClipConfig(size=size, crop=round(size * CROP_MARGIN)))


def describe(student: VideoStudent) -> str:
    """Returns a line with a student's size and clip, and the options that change them."""
    clip, parameters = student.clip, sum(weights.numel() for weights in student.parameters())
    spec = student.model_args.get("spec") or {}
    source = f" of {spec['architecture']}" if "architecture" in spec else ""
    units = f"{clip.units} x " if clip.units > 1 else ""
    return (
        f"student {student.model_name}{source}: {parameters / 1e6:.1f} M parameters, clips of "
        f"{units}{clip.frames} frames, stride {clip.stride}, {clip.size}x{clip.size} pixels. Another one: "
        "--student NAME, another clip: --set clip.size=..."
    )


def _inflatable(teacher: str) -> tuple[tuple[str, dict[str, Any]] | None, int]:
    """Returns the family and the spec for a timm network, or None, and its image size."""
    with on_meta():
        network = create_image_model(teacher, "none")
        size = image_model_info(network).size
        for family, spec_type in SHAPES:
            if spec_type in spec_types(network):
                with suppress(UsageError):
                    spec = read_source(network, spec_type).spec.to_dict()
                    create_model(family, num_classes=0, spec=spec)
                    return (family, spec), size
    return None, size


def _completed(recipe: Recipe, student: str, arguments: dict[str, Any], clip: ClipConfig) -> Recipe:
    own_clip = {name: value for name, value in recipe.clip.model_dump().items() if value is not None}
    changes = {} if "size" in own_clip else clip.model_dump()
    return recipe.model_copy(
        update={
            "student": student,
            "student_args": {**arguments, **recipe.student_args},
            "clip": ClipConfig.model_validate({**changes, **own_clip}),
        }
    )
