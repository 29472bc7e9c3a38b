"""What a page can leave behind in a process for the page after it.

Pages share a process, which is cheap, as long as each leaves it as it was. What is
looked at: the names of every module, the attributes of every class, what the dicts,
lists and sets of modules hold, loaded modules, the environment, the settings of JAX,
Flax and NumPy, random states, signals, threads, exit functions and open files. What
libraries keep under keys that are no names, such as compiled functions, is left out.
"""

import ast
import atexit
import contextlib
import copy
import gc
import locale
import operator
import os
import random
import re
import signal
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

# Whoever names one of these looks at its process, or changes it: it runs alone.
ASIDE = re.compile(
    r"XLA_FLAGS|\b(_src|jaxlib|environ|putenv|num_cpu_devices|live_arrays|clear_caches"
    r"|gc|weakref|logging|tracemalloc|monitoring|resource|psutil|subprocess"
    r"|multiprocessing|threading"
    r"|signal|atexit|fork|_exit|register\w*|__subclasses__)\b"
)
# Modules that no script reaches without such a word: half of all there is to look at.
WITHIN = re.compile(r"\._src\b|^jaxlib\b|^__main__$")
# Caches by name or place that every page may fill.
CACHES = {
    ("sys", "modules"),
    ("sys", "path_importer_cache"),
    ("linecache", "cache"),
    ("linecache", "_interactive_cache"),
}


def runs_alone(source: str) -> bool:
    """Return whether a script may change, or depend on, what nothing here looks at."""
    packages = re.findall(r"^\s*(?:import|from) (\w+)", source, flags=re.M)
    return bool(ASIDE.search(source) or set(packages) - sys.modules.keys())


class World:
    """What a process holds now; `changes` says later what has become of it."""

    def __init__(self):
        self.modules = dict(sys.modules)
        self.spaces = {  # each with its values now, which stay alive
            place: (space, list(space), list(space.values()))
            for place, space in self._spaces()
        }
        self.held = {
            (name, key): (value, content(value))
            for name, module in self._modules()
            for key, value in list(vars(module).items())
            if isinstance(value, dict | list | set) and (name, key) not in CACHES
        }
        self.settings = settings()
        self.imported: set[str] = set()

    def _modules(self) -> Iterator[tuple[str, types.ModuleType]]:
        for name, module in self.modules.items():
            if not WITHIN.search(name) and isinstance(module, types.ModuleType):
                yield name, module

    def _spaces(self) -> Iterator[tuple[str, dict]]:
        seen = set()
        for name, module in self._modules():
            yield name, vars(module)
            for value in list(vars(module).values()):
                if isinstance(value, type) and value not in seen:
                    seen.add(value)
                    yield f"{value.__module__}.{value.__qualname__}", vars(value)

    def changes(self) -> list[str]:
        """Return the places that are not as they were, but for modules loaded since.

        These are noted in `imported`, by the name under which a parent shows them.
        """
        found, missing = [], object()
        for place, (space, names, values) in self.spaces.items():
            if len(space) == len(names) and all(
                map(operator.is_, values, space.values())
            ):
                continue
            before = dict(zip(names, values, strict=True))
            # A class makes its own at the first look.
            lazy = {"__annotations__", "__annotations_cache__"} - before.keys()
            for name in before.keys() | space.keys():
                now = space.get(name)
                if name not in before and isinstance(now, types.ModuleType):
                    self.imported.add(name)
                elif before.get(name, missing) is not now and name not in lazy:
                    found.append(f"{place}.{name}")
        for (name, key), (value, kept) in self.held.items():
            if not same(value, kept) and not same(content(value), kept):
                found.append(f"{name}.{key}")
        now = settings()
        found += [name for name in now if now[name] != self.settings[name]]
        return found

    def shows(self, tree: ast.Module) -> set[str]:
        """Return the modules that only others loaded, and that a script names."""
        named = {
            node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
        }
        own = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                paths = [alias.name for alias in node.names]
                paths.append(getattr(node, "module", None) or "")
                own |= {part for path in paths for part in path.split(".")}
        return (self.imported & named) - own


def content(value: dict | list | set) -> dict | list | set:
    """Return a copy of what a container holds, of a dict what it holds under names."""
    if isinstance(value, dict):
        return {key: one for key, one in list(value.items()) if type(key) is str}
    return value.copy()


def same(value: dict | list | set, kept: dict | list | set) -> bool:
    """Return whether a container holds the very objects that it held."""
    if len(value) != len(kept):
        return False
    if isinstance(value, set):
        return value == kept
    if isinstance(value, dict):
        if [*value] == [*kept]:
            return all(map(operator.is_, value.values(), kept.values()))
        return value.keys() == kept.keys() and all(value[k] is kept[k] for k in kept)
    return all(map(operator.is_, value, kept))


def settings() -> dict[str, object]:
    """Return the settings of this process and of its libraries."""
    found = {
        "os.environ": dict(os.environ),
        "the folder": Path.cwd(),
        "umask": umask(),
        "sys.argv": list(sys.argv),
        "locale": locale.setlocale(locale.LC_ALL),
        "recursion limit": sys.getrecursionlimit(),
        "gc": (gc.isenabled(), gc.get_threshold(), gc.callbacks[:]),
        "threads": set(threading.enumerate()),
        "exit functions": atexit._ncallbacks(),
        "trace": (sys.gettrace(), sys.getprofile(), threading.gettrace()),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "random": random.getstate(),
    }
    with contextlib.suppress(FileNotFoundError):
        found["open files"] = sum(1 for _ in Path("/proc/self/fd").iterdir())
    if numpy := sys.modules.get("numpy"):
        kind, keys, *rest = numpy.random.get_state()
        found["numpy.random"] = (kind, keys.tobytes(), *rest)
        found["numpy.printoptions"] = numpy.get_printoptions()
        found["numpy.errors"] = numpy.geterr()
    if jax := sys.modules.get("jax"):
        values = jax.config.values
        found["jax.config"] = {n: getattr(jax.config, n, v) for n, v in values.items()}
    if flax := sys.modules.get("flax"):
        found["flax.config"] = copy.deepcopy(vars(flax.config))
    return found


def umask() -> int:
    """Return the mask of new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
