"""Damaged and hostile files, made by the thousand: what does the program make of each?

A target is one kind of file that comes from others (`TARGETS`). It knows how such files are damaged, as a
strategy of hypothesis, and what the program does with one. Each try runs in a child within limits of time and
memory. A file that is read, or refused in one sentence, is right; an exception that no user should see, a
hang and a death are wrong. Hypothesis then looks for the smallest change that is wrong too, and the file is
kept in `tests/corpus`, which `make test` replays.

    make fuzz                                        # ten minutes in all, FUZZ_MINUTES=60 for more
    PYTHONPATH=tools python -m fuzz videos --minutes 2 --seed 7
"""

TARGETS = ("videos", "tars", "index", "checkpoints", "http_answers", "recipes", "run_folders")
CRAFTED = "crafted"
"""Checkpoints made by hand, tried once each."""
