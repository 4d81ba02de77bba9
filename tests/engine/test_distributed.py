"""One process, several runs."""

from transfer3d.engine.distributed import any_process, gather_list, make_accelerator, on_main


def test_a_second_run_in_a_process_may_have_another_precision():
    for precision, expected in (("bf16", "bf16"), ("fp32", "no"), ("bf16", "bf16")):
        assert make_accelerator(precision).mixed_precision == expected


def test_one_process_is_main_and_gathers_its_own():
    accelerator = make_accelerator("fp32")
    assert on_main(accelerator, lambda: 7) == 7
    assert gather_list(accelerator, [1, 2]) == [1, 2]
    assert any_process(accelerator, True)
    assert not any_process(accelerator, False)
