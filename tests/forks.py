"""Processes that are forked from a server, which has imported what they need.

A fork of the test's own process would not do: autograd refuses to work in it once a test has started its
threads.
"""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["transfer3d.run.training.train", "transfer3d.cli.main", "timm.optim"])
