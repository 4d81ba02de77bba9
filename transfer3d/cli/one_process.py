"""Commands that a launcher must not start several times, since each process would do all the work."""

from typing import Any

from typer.core import TyperCommand

from transfer3d.engine.launcher import refuse_several


class OneProcess(TyperCommand):
    """A command that refuses to run in one of several processes."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        refuse_several(ctx.info_name or "")
        return super().invoke(ctx)
