"""In which order the tests run, and which of them share a worker.

Two workers, or more, take units of tests in this order. The tests of a unit share what
is made once for all of them: the run of a page, the verdicts on a lesson, a fixture.
"""

import itertools
import re
from collections import Counter

import pytest
from xdist.scheduler import LoadScopeScheduling

# Pages first: the site shows what their run has counted, and waits for it. Then what
# takes long, so that no worker is left with it at the end.
ORDER = ("pages", "proof", "exercises", "nbe", "attempts", "watch", "cost", "memory")
ORDER += ("world", "guards", "examples", "tools", "browser")
# Each test of these is a unit, for it shares nothing.
APART = ("guards", "browser")


def unit_of(test: str) -> str:
    """Return the unit of a test: its page, its lesson, its file, or itself."""
    part, parameter = part_of(test), re.search(r"\[(.*)\]$", test)
    if parameter and part in ("pages", "proof", "exercises"):
        return f"{part.replace('proof', 'pages')}: {parameter[1]}"
    return test if part in APART else part


def part_of(test: str) -> str:
    """Return the part of the suite to which a test belongs."""
    return test.partition("::")[0].rpartition("test_")[2].removesuffix(".py")


def arrange(items: list[pytest.Item], shards: int = 1) -> None:
    """Put tests into the order in which they run.

    Args:
      items: the tests.
      shards: in how many parts of equal length the order will be cut. Each part then
        has its share of what takes long.
    """
    units: dict[tuple, list[pytest.Item]] = {}
    for item in items:
        unit = unit_of(item.nodeid)
        part = unit.partition(":")[0].rpartition("test_")[2].removesuffix(".py")
        rank = ORDER.index(part) if part in ORDER else len(ORDER)
        units.setdefault((rank, unit), []).append(item)
    parts: list[list[tuple]] = [[] for _ in range(shards)]
    turns = Counter()
    for key in sorted(units, key=lambda key: (is_file(key[1]), key)):
        kind = key[0]
        if is_file(key[1]):  # to the part with the fewest tests so far
            part = min(parts, key=lambda keys: sum(len(units[key]) for key in keys))
        else:
            part = parts[turns[kind] % shards]
            turns[kind] += 1
        part.append(key)
    keys = itertools.chain(*map(sorted, parts))
    items[:] = itertools.chain(*(units[key] for key in keys))


def is_file(unit: str) -> bool:
    """Return whether a unit is a whole file of tests."""
    return not {":", "/"} & set(unit)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Order the tests."""
    arrange(items, config.getoption("splits", None) or 1)


class Units(LoadScopeScheduling):
    """Gives the next unit to the worker that has least to do.

    With the releases that we pin, xdist's own groups are ignored without a word:
    https://github.com/pytest-dev/pytest-xdist/issues/1386
    """

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Let workers take units."""
    config.option.loadscopereorder = False
    return Units(config, log)
