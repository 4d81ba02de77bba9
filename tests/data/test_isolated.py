"""Children that crash, hang or eat memory cost one job each."""

import time
from functools import partial

import pytest
from media import encode, numbered_frames
from misbehaving import misbehave

from transfer3d.data.isolated import Fault, Limits, isolated_map
from transfer3d.data.prepare import inspect
from transfer3d.errors import SetupError

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


def test_answers_come_in_order_from_children_that_do_many_jobs_and_are_then_replaced():
    jobs = [str(i) for i in range(80)]
    found = answers(jobs, 2, seconds=30)
    assert [job for job, _ in found] == jobs
    assert 3 <= len({child for _, child in found}) <= 4


def test_a_job_that_fails_in_a_used_child_is_tried_once_more_in_a_fresh_one():
    found = answers(["a", "only when fresh", "b", "refuse", "only when fresh"], 1, seconds=30)
    assert [answer[0] for answer in found if not isinstance(answer, Fault)] == [
        "a", "only when fresh", "b", "only when fresh",
    ]  # fmt: skip
    assert found[3] == Fault("damaged")


def test_a_failed_allocation_is_called_memory_whatever_it_was_turned_into():
    (found,) = answers(["allocation"], 1, memory_gib=2)
    assert found == Fault("Invalid data; the memory limit is 2 GiB")


def test_the_limit_counts_from_what_the_child_maps_at_its_start():
    """The decoder's libraries alone map more than the half gibibyte that the file may take here."""
    video = encode(numbered_frames(12))
    (found,) = isolated_map(partial(inspect, name="x"), [video], limits=Limits(memory_gib=0.5))
    assert found.frames == 12


def test_what_the_machine_lacks_makes_no_file_bad():
    stream = isolated_map(misbehave, ["a", "no disk", "b"])
    assert next(stream)[0] == "a"
    with pytest.raises(SetupError, match="the disk is full"):
        next(stream)


def test_no_child_outlives_its_reader():
    import psutil

    stream = isolated_map(misbehave, ["a"] * 50, workers=2)
    _, child = next(stream)
    stream.close()
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_nothing_to_do():
    assert answers([], 1) == []
