"""Negatives are those of the whole optimiser step, whatever the number of processes and of parts."""

import itertools
import math

import pytest
import torch
from pairwise import CLIPS, one_step, plain_step, two_processes
from sweeps import sweep

SETTINGS = {
    "match": {"match": 1.0},
    "hard": {"match": 1.0, "pairs": "hard"},
    "infonce": {"match": 0.0, "infonce": 1.0},
    "bank": {"match": 1.0, "infonce": 1.0, "bank": 12},
    "hard, bank": {"match": 1.0, "pairs": "hard", "bank": 12},
}
STANDARDISED = {"standardise, bank": {"match": 1.0, "standardise": True, "bank": 12}}
CELLS = {
    "1 process, 4 parts": lambda config, folder: [one_step(config, parts=4)],
    "2 processes": two_processes,
    "2 processes, 2 parts": lambda config, folder: two_processes(config, folder, parts=2),
}


def assert_same_gradients(found, expected):
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        # fp32 rounds sums over 16 clips in other orders; in absolute terms this is below 1e-7.
        assert float((found[name] - gradient).abs().max()) < 5e-5 * largest, name


@pytest.mark.parametrize("setting", SETTINGS)
def test_one_process_and_one_part_give_the_loss_of_plain_autograd(setting):
    found, plain = one_step(SETTINGS[setting]), plain_step(SETTINGS[setting])
    torch.testing.assert_close(found["loss"], plain.loss, rtol=1e-5, atol=1e-5)
    assert_same_gradients(found["gradients"], plain.gradients)


@pytest.mark.proc
@pytest.mark.parametrize(
    ("setting", "cell"),
    sweep(
        itertools.product((*SETTINGS, *STANDARDISED), CELLS),
        [("hard, bank", cell) for cell in CELLS] + [(setting, "1 process, 4 parts") for setting in SETTINGS],
    ),
)
def test_loss_gradients_and_metrics_do_not_depend_on_processes_and_parts(setting, cell, tmp_path):
    config = {**SETTINGS, **STANDARDISED}[setting]
    whole = one_step(config)
    for found in CELLS[cell](config, tmp_path):
        torch.testing.assert_close(found["loss"], whole["loss"], rtol=1e-5, atol=1e-5)
        assert found["parts"].keys() == whole["parts"].keys()
        for name, value in whole["parts"].items():
            torch.testing.assert_close(found["parts"][name], value, rtol=1e-4, atol=1e-5, msg=name)
        assert_same_gradients(found["gradients"], whole["gradients"])
        assert found["bank"].keys() == whole["bank"].keys()
        for name, rows in whole["bank"].items():
            torch.testing.assert_close(found["bank"][name], rows, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.proc
@pytest.mark.parametrize(
    "config",
    [
        {"match": 1.0, "pairs": "one-to-one"},
        {"match": 1.0, "pairs": "one-to-one", "bank": 12},
        {"feature": 1.0, "kd": 1.0},
    ],
)
def test_drawn_pairs_and_terms_without_pairs_agree_over_processes_too(config, tmp_path):
    first, second = two_processes(config, tmp_path, parts=2)
    torch.testing.assert_close(first["loss"], second["loss"])
    assert_same_gradients(first["gradients"], second["gradients"])
    if "pairs" not in config:
        torch.testing.assert_close(first["loss"], one_step(config)["loss"], rtol=1e-5, atol=1e-5)


def test_an_untrained_contrast_has_the_log_of_all_clips_for_its_loss():
    """With 16 clips in 4 parts 2.77, the log of 16, not 1.39, the log of the 4 clips of a part."""
    config = {"match": 0.0, "infonce": 1.0, "temperature": 1e6}
    found = one_step(config, parts=4)["loss"]
    rivals = [CLIPS - 1] * 6 + [CLIPS] * 10  # a clip of a shared source does not compete with its twin
    assert float(found) == pytest.approx(sum(map(math.log, rivals)) / CLIPS, abs=1e-4)
