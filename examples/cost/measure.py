"""Measures what a call costs in Linen and in NNX: `make cost`.

Writes `measured.json` beside this file, from which the site draws its figures. The
ways take turns in every round, so that a busy machine slows all of them alike; a ratio
is the median over the rounds. Times are CPU times of this process, but wall times of
loops, all in microseconds. `--rounds 3` is a short run.
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from rich.progress import Progress

from examples.cost import models, ways

ROOT = Path(__file__).parents[2]
RESULT = Path(__file__).parent / "measured.json"
ROUNDS = 9
PACKAGES = ("flax", "jax", "jaxlib", "optax")
# The wide model by its number of leaves: a layer has two.
LEAVES = {"10 leaves": 5, "100 leaves": 50, "300 leaves": 150}
TRANSFORMER = {"count": 4, "features": 128, "heads": 4}
# The models that are built and compiled: the others take minutes, or are too small.
BUILT = ("100 leaves", "transformer")
# Of each kind of way, those that compile differently.
COMPILED = ("Linen", "nnx.jit", "jax.jit, as_pure")
# The transformer of a loop, by its features, and what steps in the loop.
FEATURES = (32, 64, 128, 256)
LOOPED = ("Linen", "nnx.jit", "jax.jit, as_pure")
# Steps of a loop; then those that make a queue too long.
STEPS, MANY_STEPS = 8, 128
# Attention that decodes: tokens that there is room for, and those that are filled.
CAPACITIES = (64, 128, 256, 512, 1024, 2048)
FEW = 10
# How often each way is compiled, and how often a new process builds.
COMPILES = 3
ARGUMENTS = {
    "leaves": LEAVES,
    "transformer": TRANSFORMER,
    "built": BUILT,
    "features": FEATURES,
    "steps": (STEPS, MANY_STEPS),
    "capacities": CAPACITIES,
    "seconds": 0.03,
}


def cases(leaves, transformer):
    """Yield name, constructor, Linen twin and input of each model to measure."""
    for name, count in leaves.items():

        def make(count=count):
            return models.Wide(count, rngs=nnx.Rngs(0))

        yield name, make, models.LinenWide(count), jnp.ones((4, 1))  # x[batch, 1]

    def make_transformer():
        return models.Transformer(**transformer, rngs=nnx.Rngs(0))

    x = waves(8, 64, transformer["features"])  # x[batch, length, features]
    yield "transformer", make_transformer, models.LinenTransformer(**transformer), x


def waves(*shape):
    """Return an input that needs no random key."""
    return jnp.sin(jnp.arange(math.prod(shape), dtype=jnp.float32)).reshape(shape)


def cpu_seconds(way, calls=1):
    """Return the CPU seconds of one call: the mean over `calls` calls."""
    start = time.process_time()
    for _ in range(calls):
        jax.block_until_ready(jax.tree.leaves(way()))
    return (time.process_time() - start) / calls


def take_turns(functions, rounds, seconds):
    """Return the CPU seconds of a call of each way, by name, one for each round.

    Args:
      functions: the ways by name. Each is called twice before it is timed.
      rounds: how often each way has its turn.
      seconds: about how long a turn takes; it has one call at least.
    """
    calls = {}
    for name, way in functions.items():
        way()
        calls[name] = max(1, int(seconds / max(cpu_seconds(way), 1e-5)))
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, way in functions.items():
            with mode_of(name):
                times[name].append(cpu_seconds(way, calls[name]))
    return times


def mode_of(name):
    """Return the context in which a way is called."""
    return ways.tree_mode() if ways.IN_TREE_MODE in name else contextlib.nullcontext()


def wall_seconds(way, calls, *, awaited):
    """Return the wall seconds of one of `calls` calls, and wait for each or for all."""
    start = time.perf_counter()
    for _ in range(calls):
        result = way()
        if awaited:
            jax.block_until_ready(result)
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / calls


def loops(functions, rounds, steps):
    """Return what a step of a loop takes by each way, with its ratio to the first.

    "awaited" waits for each step, "queued" for the last one; "python" is the share of
    the queued loop after which its last call returns.
    """
    for way in functions.values():
        jax.block_until_ready([way(), way()])
    awaited, queued, python = ({name: [] for name in functions} for _ in range(3))
    for _ in range(rounds):
        for name, way in functions.items():
            awaited[name].append(wall_seconds(way, steps, awaited=True))
            queued[name].append(wall_seconds(way, steps, awaited=False))
            python[name].append(ways.python_share(way, [()] * steps))
    shares = {way: round(statistics.median(found), 2) for way, found in python.items()}
    return {"awaited": summary(awaited), "queued": summary(queued), "python": shares}


def queue(way, rounds, lengths):
    """Return the share of Python in loops of these lengths, by length."""
    shares = {length: [] for length in lengths}
    for _ in range(rounds):
        for length in lengths:
            shares[length].append(ways.python_share(way, [()] * length))
    return {str(n): round(statistics.median(found), 2) for n, found in shares.items()}


def memory(model, x, y):
    """Return the bytes that a compiled step takes, gives back and reuses."""
    found = {}
    for name, donated in {"without": (), "with": (0, 1)}.items():
        optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
        step = nnx.jit(ways.train_step, donate_argnums=donated)
        sizes = step.lower(model, optimizer, x, y).compile().memory_analysis()
        found[name] = {
            "arguments": sizes.argument_size_in_bytes,
            "results": sizes.output_size_in_bytes,
            "reused": sizes.alias_size_in_bytes,
        }
    return found


def first_calls(build, names, rounds, enough=10):
    """Return the CPU seconds of the first call of each way: tracing and compiling.

    Args:
      build: returns the ways, compiled by none.
      names: those to time.
      rounds: how often each way has its turn, until one round took `enough` seconds.
      enough: seconds.
    """
    times = {name: [] for name in names}
    for _ in range(rounds):
        functions = build()
        for name in names:
            times[name].append(cpu_seconds(functions[name]))
        if sum(found[-1] for found in times.values()) > enough:
            break
    return times


def summary(times):
    """Return each way's median in microseconds, and its ratio to the first way."""
    reference = next(iter(times.values()))
    return {
        name: {
            "us": round(statistics.median(found) * 1e6, 1),
            "ratio": round(
                statistics.median(
                    mine / other for mine, other in zip(found, reference, strict=True)
                ),
                3,
            ),
        }
        for name, found in times.items()
    }


def cache_ways(capacity, features=256, heads=8):
    """Return the ways to compute one more token by a cache of some capacity.

    "few" and "full" find ten tokens in it, or all but one, and give it to the step to
    reuse. "copied" is full and keeps it. "without" passes as many tokens as the cache
    has room for.
    """
    made = nnx.MultiHeadAttention(heads, features, decode=False, rngs=nnx.Rngs(0))
    x = waves(1, capacity, features)  # x[batch, length, features]
    token = x[:, -1:]  # token[batch, 1, features]
    made.init_cache(x.shape)

    def all_tokens(attention, x):
        return attention(x, is_causal=True)[:, -1:]

    def one_token(attention, token, index):
        attention.cache_index[...] = index
        return attention(token, decode=True)

    def decode(index, **options):
        copied = nnx.clone(made, arrays=True)
        step = nnx.jit_partial(one_token, copied, graph=False, **options)
        index = jnp.array(index, jnp.int32)
        return lambda: step(token, index)

    without = nnx.jit_partial(all_tokens, made, graph=False)
    return {
        "few": decode(min(FEW, capacity - 1), donate_argnums=0),
        "full": decode(capacity - 1, donate_argnums=0),
        "copied": decode(capacity - 1),
        "without": lambda: without(x),
    }


def first_built(name, way, leaves, transformer):
    """Build a model once, and print the CPU seconds: a process calls this first."""
    found = {model: built for model, *built in cases(leaves, transformer)}
    print(cpu_seconds(ways.construct_ways(*found[name])[way]))


def first_builds(name, leaves, transformer, rounds):
    """Return the CPU seconds that each way to build takes in a process of its own."""
    times = {way: [] for way in ("Linen, init", "NNX, constructor")}
    for _ in range(rounds):
        for way, found in times.items():
            given = json.dumps([name, way, leaves, transformer])
            command = [sys.executable, "-m", "examples.cost.measure", "--first", given]
            options = {"check": True, "capture_output": True, "text": True}
            done = subprocess.run(command, cwd=ROOT, **options)
            found.append(float(done.stdout))
    return times


def measure(
    *,
    leaves,
    transformer,
    built,
    features,
    steps,
    capacities,
    rounds,
    compiles,
    seconds,
    progress,
):
    """Return all times, by kind, then by model or size, then by way.

    Args:
      leaves: the wide models, name to number of layers.
      transformer: the arguments of the transformer.
      built: the names of those that are built and compiled.
      features: those of the transformers that step in loops.
      steps: of a loop, and of one that is too long.
      capacities: the numbers of tokens for which a cache has room.
      rounds: how often each way has its turn.
      compiles: how often each way is compiled anew.
      seconds: about how long a turn takes.
      progress: called with the name of each step before it starts.
    """
    kinds = ("forward", "step", "construct", "compile", "loop", "cache")
    found = {kind: {} for kind in kinds}
    for name, make, linen_model, x in cases(leaves, transformer):
        both = pair(make, linen_model, x)
        forward = partial(ways.forward_ways, *both)
        step = partial(ways.step_ways, *both, jnp.zeros_like(x))
        for kind, build in {"forward": forward, "step": step}.items():
            progress(f"{kind}, {name}")
            found[kind][name] = summary(take_turns(build(), rounds, seconds))
        if name not in built:
            continue
        progress(f"first construct, {name}")
        first = summary(first_builds(name, leaves, transformer, compiles))
        progress(f"construct, {name}")
        construct = ways.construct_ways(make, linen_model, x)
        later = summary(take_turns(construct, rounds, seconds))
        found["construct"][name] = {"first": first, "later": later}
        constructor = partial(ways.compiled_constructors, make, linen_model, x)
        compiled = {
            "forward": (forward, COMPILED),
            "step": (step, COMPILED),
            "constructor": (constructor, ("Linen", "NNX")),
        }
        found["compile"][name] = {}
        for kind, (build, names) in compiled.items():
            progress(f"compile {kind}, {name}")
            found["compile"][name][kind] = summary(
                first_calls(build, names, compiles)
            )
        found["memory"] = memory(both[0], x, jnp.zeros_like(x))
    for size in features:
        progress(f"loop, {size} features")
        *_, (_, make, linen_model, x) = cases({}, {**transformer, "features": size})
        both = pair(make, linen_model, x)
        made = ways.step_ways(*both, jnp.zeros_like(x))
        looped = {name: made[name] for name in LOOPED}
        found["loop"][str(size)] = loops(looped, rounds, steps[0])
        if size == features[0]:
            found["queue"] = queue(looped["jax.jit, as_pure"], rounds, steps)
    for capacity in capacities:
        progress(f"cache, {capacity} tokens")
        times = take_turns(cache_ways(capacity), rounds, seconds)
        found["cache"][str(capacity)] = summary(times)
    return found


def pair(make, linen_model, x):
    """Return model, Linen twin, params and input: what the ways take."""
    model = make()
    return model, linen_model, models.linen_params(model), x


def machine():
    """Return what the figures were measured on, in words."""
    info = Path("/proc/cpuinfo")
    text = info.read_text("utf-8") if info.exists() else ""
    model = re.search(r"^model name\s*: (.*)$", text, flags=re.M)
    name = model[1] if model else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def about(rounds):
    """Return date, machine and versions: what a figure is worth nothing without."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "rounds": rounds,
    }


def main():
    """Measure all, with a bar that says how far it is, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--first", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    if given.first:
        first_built(*given.first)
        return
    total = 2 * (len(LEAVES) + 1) + 5 * len(BUILT) + len(FEATURES) + len(CAPACITIES)
    with Progress() as bar:
        task, done = bar.add_task("", total=total), itertools.count()

        def progress(name):
            bar.update(task, description=f"{name:28}", completed=next(done))

        found = measure(
            **ARGUMENTS,
            rounds=given.rounds,
            compiles=min(COMPILES, given.rounds),
            progress=progress,
        )
        bar.update(task, description="done", completed=total)
    text = json.dumps({**about(given.rounds), **found}, indent=1)
    RESULT.write_text(text + "\n", "utf-8")
    print(f"Wrote {RESULT.name}. To see the figures on the site: make serve")


if __name__ == "__main__":
    main()
