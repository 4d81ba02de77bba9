"""`transfer3d env`."""

from transfer3d.cli import options
from transfer3d.cli.output import out, print_json


def env(json: options.Json = False) -> None:
    """Show versions, devices, decoder and known-bad combinations.

    Example: `transfer3d env --json`
    """
    from transfer3d.run.environment import describe

    environment = describe()
    if json:
        print_json(environment)
        return
    for section, values in environment.items():
        if isinstance(values, dict):
            out().print(section, style="bold")
            for name, value in values.items():
                out().print(f"  {name:<18} {value}")
    for warning in environment["warnings"]:
        out().print(f"warning: {warning}", style="red")
