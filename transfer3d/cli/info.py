"""`transfer3d info`."""

from json import dumps
from typing import Annotated, Any

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out as stdout
from transfer3d.cli.output import print_json


def info(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Checkpoint, Hub folder, or hf_hub:user/name@revision.")
    ],
    json: options.Json = False,
) -> None:
    """Show a checkpoint's model and provenance, and whether its digests match.

    Example: `transfer3d info p3d_resnet50.safetensors`
    """
    from transfer3d.errors import WeightsError
    from transfer3d.run.checkpoints.info import inspect_checkpoint

    report = inspect_checkpoint(file)
    metadata = report.to_dict()
    if json:
        print_json(metadata)
    else:
        stdout().print("\n".join(_lines(metadata)))
    if not report.intact:
        raise WeightsError(
            f"{file}: its tensors were changed after saving: their digest differs. Copy it again."
        )


def _lines(metadata: dict[str, Any]) -> list[str]:
    rows = [(key, metadata[key]) for key in ("file", "bytes", "sha256", "version", "model", "paper")]
    rows += [(key, metadata[key]) for key in ("model_args", "parameters", "tensors", "num_classes")]
    if metadata["class_names"]:
        rows.append(("classes", ", ".join(metadata["class_names"])))
    rows.append(("clip", ", ".join(f"{key} {value}" for key, value in metadata["clip"].items())))
    rows += metadata["provenance"].items()
    rows += [(f"digest of {check['what']}", check["verdict"]) for check in metadata["digests"]]
    return [f"{key:<16} {_text(value)}" for key, value in rows]


def _text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else dumps(value)
