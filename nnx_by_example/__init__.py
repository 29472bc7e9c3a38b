"""The learner's command `nbe`: attempt a problem of the course and get a verdict.

It is a study aid and not a sandbox: your code runs with your rights, in a process of
its own, within limits of time and memory. `check` gives the same verdict on a function
of a running session, and there without limits.

It is the only package that is installed, so it imports nothing else of ours, and reads
the lessons as files.
"""

from nnx_by_example.session import check

__all__ = ["check"]
