"""`transfer3d recipe ls|show|validate`."""

from itertools import groupby
from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out, print_json

app = typer.Typer(
    no_args_is_help=True, help="The recipes: list, show, validate.", rich_markup_mode="markdown"
)


@app.command()
def ls(json: options.Json = False) -> None:
    """List the built-in recipes by paper, with the table or section that their numbers come from.

    Example: `transfer3d recipe ls`
    """
    from transfer3d.recipes.files import list_recipes, read_with_parents

    recipes = {name: read_with_parents(name) for name in list_recipes()}
    if json:
        print_json(
            [
                {"name": name, **{key: recipe.get(key) for key in ("task", "student", "source")}}
                for name, recipe in recipes.items()
            ]
        )
        return
    width = max(map(len, recipes)) + 2
    for paper, names in groupby(recipes, key=lambda name: name.partition("/")[0]):
        out().print(f"{paper}:")
        for name in names:
            out().print(f"  {name:<{width}}{recipes[name].get('source', '')}".rstrip())


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Built-in name or TOML file.")], set_: options.Set = None
) -> None:
    """Print a recipe as it resolves, parents and --set included.

    Example: `transfer3d recipe show demo/correspond --set max_steps=100`
    """
    from transfer3d.recipes.load import dump, load_recipe

    typer.echo(dump(load_recipe(name, set_ or ())), nl=False)


@app.command()
def validate(name: Annotated[str, typer.Argument(help="Built-in name or TOML file.")]) -> None:
    """Check a recipe: every key, and that its students and its teacher can be built.

    Example: `transfer3d recipe validate my.toml`
    """
    from transfer3d.recipes.load import load_recipe
    from transfer3d.run.training.students import check_recipe

    recipe = load_recipe(name)
    check_recipe(recipe)
    out().print(f"{name}: a valid recipe for `transfer3d {recipe.task}`")
