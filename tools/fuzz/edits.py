"""How files are damaged: edits of bytes, and edits of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)
DEEP: Any = None
for _ in range(40):
    DEEP = [DEEP]
ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 3, 1.5, 2**31, 2**63, 2**64, 10**400, -(10**18), 1e308, 5e-324),
    *(float("nan"), float("inf"), float("-inf"), "", "3", "a" * 70_000, "../../x", "/dev/zero", "pipe:id"),
    *(
        "\x1b]0;x\x07",
        "\ud800",
        "\u202egpj",
        "\x00",
        "é" * 300,
        [],
        [[]],
        {},
        {"": None},
        [1, "a", None],
        DEEP,
    ),
)
"""Values that a reader may not expect."""
Step = tuple[Any, ...]
"""The way to a value: keys and positions."""


class Twice(dict[str, Any]):
    """A table in which the last key is written a second time, with another value."""

    again: Any = None


def edited_bytes(examples: Sequence[bytes], *, most: int = 6) -> SearchStrategy[bytes]:
    """Returns examples with a few edits: bits, bytes, numbers, pieces that are cut, doubled or moved.

    Args:
        examples: undamaged files.
        most: edits in one file.
    """
    position = st.integers(0, 2**31)
    edit = st.one_of(
        st.tuples(st.just(_flip), position, st.integers(0, 7)),
        st.tuples(st.just(_overwrite), position, st.binary(min_size=1, max_size=8)),
        st.tuples(
            st.just(_overwrite),
            position,
            st.builds(_number, st.sampled_from(EXTREMES), st.sampled_from((1, 2, 4, 8)), st.booleans()),
        ),
        st.tuples(st.just(_insert), position, st.binary(min_size=1, max_size=64)),
        st.tuples(st.just(_delete), position, st.integers(1, 4096)),
        st.tuples(st.just(_double), position, st.integers(1, 4096)),
        st.tuples(st.just(_cut), position, st.none()),
        st.tuples(st.just(_splice), position, st.sampled_from(examples)),
    )
    return st.builds(_with_edits, st.sampled_from(examples), st.lists(edit, min_size=1, max_size=most))


def edited_json(document: Any, *, most: int = 3, texts: Sequence[str] = ()) -> SearchStrategy[Any]:
    """Returns a document with a few values replaced, removed, renamed or written twice.

    Args:
        document: of JSON's types; it is not changed.
        most: edits in one document.
        texts: odd values of this kind of file.
    """
    odd = st.one_of(
        st.sampled_from((*ODD, *texts)), st.integers(), st.floats(), st.text(max_size=20), st.just(document)
    )
    edit = st.tuples(
        st.integers(0, 2**31),
        st.sampled_from(("replace", "replace", "replace", "remove", "twice", "add")),
        odd,
    )
    return st.lists(edit, min_size=1, max_size=most).map(lambda edits: _with_changes(document, edits))


def rows(table: dict[str, Any]) -> list[tuple[str, Any]]:
    """Returns keys and values, some of them twice."""
    again = [(list(table)[-1], table.again)] if isinstance(table, Twice) and table else []
    return [*table.items(), *again]


def dumps(value: Any) -> str:
    """Writes JSON as `json.dumps` does, with tables that hold a key twice."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {dumps(inner)}" for key, inner in rows(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(dumps, value)) + "]"
    return json.dumps(value)


def paths(value: Any, way: Step = ()) -> Iterator[Step]:
    """Yields the way to every value of a document."""
    yield way
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*way, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, (*way, index))


def changed(document: Any, way: Step, change: Callable[[Any], Any]) -> Any:
    """Returns a document with one value changed."""
    if not way:
        return change(document)
    copy = document.copy()
    copy[way[0]] = changed(document[way[0]], way[1:], change)
    return copy


def without(document: Any, way: Step) -> Any:
    """Returns a document without one value."""

    def remove(parent: Any) -> Any:
        copy = parent.copy()
        del copy[way[-1]]
        return copy

    return changed(document, way[:-1], remove) if way else {}


def _with_changes(document: Any, edits: Sequence[tuple[int, str, Any]]) -> Any:
    for number, kind, odd in edits:
        ways = list(paths(document))
        way = ways[number % len(ways)]
        if kind == "remove":
            document = without(document, way)
        elif kind == "replace":
            document = changed(document, way, lambda _, odd=odd: odd)
        else:
            document = changed(document, way, lambda value, kind=kind, odd=odd: _grown(value, kind, odd))
    return document


def _grown(value: Any, kind: str, odd: Any) -> Any:
    """A table with a key twice or with another key, a list with another item."""
    if isinstance(value, list):
        return [*value, odd]
    if not isinstance(value, dict):
        return [value, odd]
    if kind == "add":
        return {**value, "odd": odd}
    table = Twice(value)
    table.again = odd
    return table


def _with_edits(example: bytes, edits: Sequence[tuple[Any, int, Any]]) -> bytes:
    for edit, position, argument in edits:
        example = edit(example, position % (len(example) + 1), argument)
    return example


def _number(value: int, size: int, big: bool) -> bytes:
    return (value % 256**size).to_bytes(size, "big" if big else "little")


def _flip(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes(byte ^ 1 << bit for byte in data[at : at + 1]) + data[at + 1 :]


def _overwrite(data: bytes, at: int, piece: bytes) -> bytes:
    return data[:at] + piece + data[at + len(piece) :]


def _insert(data: bytes, at: int, piece: bytes) -> bytes:
    return data[:at] + piece + data[at:]


def _delete(data: bytes, at: int, size: int) -> bytes:
    return data[:at] + data[at + size :]


def _double(data: bytes, at: int, size: int) -> bytes:
    return data[: at + size] + data[at:]


def _cut(data: bytes, at: int, _: None) -> bytes:
    return data[:at]


def _splice(data: bytes, at: int, other: bytes) -> bytes:
    return data[:at] + other[at:]
