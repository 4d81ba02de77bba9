"""Children that crash, hang or eat memory cost one job each."""

import time

from faulty import misbehave

from transfer3d.data.isolated import Fault, Limits, isolated_map

JOBS = ["a", "crash", "b", "hang", "exit", "memory", "refuse", "bug", "c"]
FAULTS = ("crash", "hang", "exit", "memory", "refuse", "bug")


def answers(jobs, workers, **limits):
    return list(isolated_map(misbehave, jobs, workers=workers, limits=Limits(**limits)))


def test_what_goes_wrong_costs_its_own_job_only():
    for workers in (1, 2):
        started = time.monotonic()
        found = answers(JOBS, workers, seconds=1.0)
        assert time.monotonic() - started < 20
        for job, answer in zip(JOBS, found, strict=True):
            if job in FAULTS:
                assert isinstance(answer, Fault), job
            else:
                assert answer[0] == job
        assert "SIGSEGV" in found[1].reason
        assert "1 s" in found[3].reason
        assert "4 GiB" in found[5].reason


def test_answers_come_in_order_and_children_are_kept():
    jobs = [str(i) for i in range(40)]
    found = answers(jobs, 2, seconds=30)
    assert [job for job, _ in found] == jobs
    assert len({child for _, child in found}) <= 2


def test_no_child_outlives_its_reader():
    import psutil

    stream = isolated_map(misbehave, ["a"] * 50, workers=2)
    _, child = next(stream)
    stream.close()
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_nothing_to_do():
    assert answers([], 1) == []
