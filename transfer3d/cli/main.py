"""`transfer3d`: the command line. Every command is one function in a module of this folder.

Errors that a user can cause end with one line and the exit code of their class (see `transfer3d.errors`);
anything else is a bug and ends with 1. `--debug` shows the traceback of either.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from transfer3d import __version__
from transfer3d.cli import (
    bench,
    cam,
    check,
    correspond,
    deepdraw,
    demo,
    env,
    evaluate,
    export,
    features,
    finetune,
    import_,
    inflate,
    info,
    kernels,
    models,
    order,
    predict,
    probe,
    recipe,
    report,
    shard,
    synth,
    tsne,
)
from transfer3d.cli.mistakes import TYPED, add_hint
from transfer3d.cli.one_process import OneProcess
from transfer3d.cli.output import fold_help, open_streams, plain_warnings, print_log
from transfer3d.errors import SetupError, Transfer3dError
from transfer3d.text import one_line, visible

SETUP_ERRNOS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ELOOP,
    errno.EMFILE, errno.ENAMETOOLONG,
)  # fmt: skip
"""Errors caused by the disk or the user's setup, not by a bug."""
PATH_ERRNOS = (
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENXIO, errno.ENODEV, errno.EBUSY,
    errno.ENOTEMPTY,
)  # fmt: skip
"""Errors caused by a path: it is of another kind, or another process has just changed it."""
REMEDIES = {
    errno.ENOSPC: "Free some space, or write to another disk.",
    errno.EDQUOT: "Free some of your quota, or write to another disk.",
    errno.EMFILE: "Raise the limit of open files (`ulimit -n`), or use fewer --workers.",
    errno.EIO: "Check the disk.",
}
"""Remedies for errors that are not those of the path."""
PACKAGE_FOLDER = Path(__file__).parents[1]
"""Where a missing file is a bug."""


class Commands(TyperGroup):
    """Turns exceptions into one line and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keeps the command line for hints, and prepares help pages if one is asked for."""
        ctx.meta[TYPED] = list(args)
        if not args or {"-h", "--help"} & set(args):
            fold_help()
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        debug = ctx.params.get("debug", False)
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except Transfer3dError as error:
            _say(f"error: {error}", debug=debug)
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            # The reader of the output has closed the pipe, as in `transfer3d models | head -1`.
            _drop_output()
            raise typer.Exit(0) from None
        except MemoryError:
            _say(
                "error: not enough memory. Give the process more, or take smaller videos or fewer at a time.",
                debug=debug,
            )
            raise typer.Exit(SetupError.exit_code) from None
        except (typer.Exit, typer.Abort, KeyboardInterrupt):
            raise
        except Exception as error:
            if _is_click_error(error):
                add_hint(error)
                raise
            if isinstance(error, OSError) and _is_setup_error(error):
                if error.filename is None:
                    _drop_output()  # the output may be what could not be written
                where = f"{error.filename}: " if error.filename else ""
                remedy = REMEDIES.get(error.errno or 0, "Check the path and its permissions.")
                _say(f"error: {where}{error.strerror}. {remedy}", debug=debug)
                raise typer.Exit(SetupError.exit_code) from None
            what = f"{type(error).__name__}: {error}"
            _say(
                f"bug: {what}. Run again with `transfer3d --debug ...` and report the traceback.", debug=debug
            )
            raise typer.Exit(1) from None


def _is_click_error(error: Exception) -> bool:
    """Whether the command line is wrong: typer prints such errors itself, with exit code 2."""
    return hasattr(error, "format_message")


def _is_setup_error(error: OSError) -> bool:
    if error.errno in SETUP_ERRNOS:
        return True
    named = isinstance(error.filename, str | bytes | os.PathLike)
    return (
        named
        and error.errno in PATH_ERRNOS
        and PACKAGE_FOLDER not in Path(os.fsdecode(error.filename)).parents
    )


def _drop_output() -> None:
    """Keeps the interpreter from writing the remaining output at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(line: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    typer.echo(visible(one_line(f"transfer3d: {line}")), err=True)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(__version__)
        raise typer.Exit


app = typer.Typer(
    name="transfer3d",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def transfer3d(
    debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turns image models into video models: inflate, correspond, finetune.

    Start with `transfer3d demo`: the whole pipeline on a built-in dataset, in minutes.
    """
    print_log()
    try:
        os.getcwd()
    except FileNotFoundError:
        raise SetupError("the current folder is gone. Change to another, and run it again.") from None


PANELS = {
    "Start": (demo.demo, models.models, inflate.inflate, import_.import_, info.info, env.env),
    "Train": (correspond.correspond, finetune.finetune),
    "Test": (evaluate.evaluate, predict.predict, features.features, probe.probe, order.order, export.export),
    "Look": (report.report, cam.cam, deepdraw.deepdraw, tsne.tsne, kernels.kernels),
    "Data": (check.check, shard.shard, synth.synth),
}
"""The commands as `--help` shows them."""

SHARED = (
    correspond.correspond, finetune.finetune, evaluate.evaluate, predict.predict, features.features, cam.cam,
    order.order, shard.shard, inflate.inflate, synth.synth, models.models, info.info, env.env,
)  # fmt: skip
"""The commands whose processes share the work, or leave it to the main one, or that only print."""

for panel, commands in PANELS.items():
    for command in commands:
        kind = None if command in SHARED else OneProcess
        app.command(command.__name__.rstrip("_"), cls=kind, rich_help_panel=panel)(command)
app.add_typer(recipe.app, name="recipe", rich_help_panel="Train")
app.add_typer(bench.app, name="bench", rich_help_panel="Test")


def main() -> None:
    """Runs the command line of this process."""
    open_streams()
    with plain_warnings():
        app()
