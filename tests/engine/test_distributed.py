"""One process, several runs."""

import torch

from transfer3d.engine.distributed import any_process, gather_list, leave_cores_to, make_accelerator, on_main


def test_a_second_run_in_a_process_may_have_another_precision():
    for precision, expected in (("bf16", "bf16"), ("fp32", "no"), ("bf16", "bf16")):
        assert make_accelerator(precision).mixed_precision == expected


def test_one_process_is_main_and_gathers_its_own():
    accelerator = make_accelerator("fp32")
    assert on_main(accelerator, lambda: 7) == 7
    assert gather_list(accelerator, [1, 2]) == [1, 2]
    assert any_process(accelerator, True, False) == (True, False)


def test_decoding_processes_get_cores_and_training_keeps_one():
    before = torch.get_num_threads()
    try:
        leave_cores_to(1000)
        assert torch.get_num_threads() == 1
        leave_cores_to(0)
        assert torch.get_num_threads() == 1  # what was given up, or never had, is not taken
    finally:
        torch.set_num_threads(before)
