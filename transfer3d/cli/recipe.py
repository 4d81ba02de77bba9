"""`transfer3d recipe ls|schema|show|validate`."""

from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import Annotated

import typer

from transfer3d.cli import options
from transfer3d.cli.output import out, print_json

INDENT = "      "

app = typer.Typer(
    no_args_is_help=True,
    help="The recipes: list, show, validate; a schema for editors.",
    rich_markup_mode="markdown",
)


@app.command()
def ls(json: options.Json = False) -> None:
    """List the built-in recipes, those to start with first: student, description, the paper's number.

    Example: `transfer3d recipe ls`
    """
    from transfer3d.recipes.descriptions import FOR_BEGINNERS, beginners_first, describe
    from transfer3d.recipes.files import list_recipes, read_with_parents, recipe_folder

    recipes = {name: read_with_parents(name) for name in beginners_first(list_recipes())}
    described = {name: describe(recipe_folder() / f"{name}.toml") for name in recipes}
    if json:
        print_json(
            [
                {
                    "name": name,
                    **{key: recipe.get(key) for key in ("task", "student", "source")},
                    "description": described[name].text,
                    "printed": described[name].printed,
                }
                for name, recipe in recipes.items()
            ]
        )
        return
    console, width = out(), max(map(len, recipes)) + 2
    for folder, names in groupby(recipes, key=lambda name: name.partition("/")[0]):
        purpose = f", for {FOR_BEGINNERS[folder]}" if folder in FOR_BEGINNERS else ", the paper's experiments"
        console.print(f"{folder}{purpose}:")
        for name in names:
            console.print(f"  {name:<{width}}{recipes[name].get('student') or 'any student'}")
            console.print(
                fill(described[name].text, console.width, initial_indent=INDENT, subsequent_indent=INDENT)
            )


@app.command()
def schema(
    file: Annotated[
        Path | None, typer.Option("-o", "--out", help="JSON file to write. Default: the terminal.")
    ] = None,
) -> None:
    """Print the JSON Schema of recipes, with which editors complete keys and mark mistakes.

    In VS Code, Even Better TOML uses it for recipes that begin with `#:schema ./recipe.schema.json`.

    Example: `transfer3d recipe schema -o recipe.schema.json`
    """
    from json import dumps

    from transfer3d.files import write_text
    from transfer3d.recipes.json_schema import recipe_schema

    text = dumps(recipe_schema(), indent=2)
    if file is None:
        typer.echo(text)
    else:
        write_text(file, f"{text}\n")
        out().print(f"wrote {file}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Built-in name or TOML file.")], set_: options.Set = None
) -> None:
    """Print a resolved recipe, with its parents and --set applied.

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
