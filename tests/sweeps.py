"""Parametrised tests of which a part runs in `make test`, and the whole in `make test-slow`."""

import pytest


def sweep(cases, quick):
    """The cases, of which those that are not among `quick` are slow."""
    return [case if case in quick else _slow(case) for case in cases]


def _slow(case):
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
