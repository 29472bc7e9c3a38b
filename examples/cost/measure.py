"""Measures what a call costs in Linen and in NNX: `make cost`.

Writes `measured.json` beside this file, from which the site draws its figures. The
ways take turns in every round, so that a busy machine slows all of them alike; a ratio
is the median over the rounds. All times are CPU times of this process, in microseconds.
"""

import itertools
import json
import os
import platform
import re
import statistics
import time
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from rich.progress import Progress

from examples.cost import models, ways

RESULT = Path(__file__).parent / "measured.json"
ROUNDS = 15
PACKAGES = ("flax", "jax", "jaxlib", "optax")
# The wide model by its number of leaves: a layer has two.
LEAVES = {"10 leaves": 5, "100 leaves": 50, "1,000 leaves": 500}
TRANSFORMER = {"count": 4, "features": 128, "heads": 4}
# Of each kind of way, those that compile differently.
COMPILED = ("Linen", "nnx.jit", "nnx.jit, graph=False", "jax.jit, as_pure")
# Attention that decodes: tokens so far.
LENGTHS = (64, 128, 256, 512, 1024, 2048)
# How often each way is compiled.
COMPILES = 3


def cases(leaves, transformer):
    """Yield name, constructor, Linen twin and input of each model to measure."""
    for name, count in leaves.items():

        def make(count=count):
            return models.Wide(count, rngs=nnx.Rngs(0))

        yield name, make, models.LinenWide(count), jnp.ones((4, 1))  # x[batch, 1]

    def make_transformer():
        return models.Transformer(**transformer, rngs=nnx.Rngs(0))

    # x[batch, length, features]
    x = jax.random.normal(jax.random.key(0), (8, 64, transformer["features"]))
    yield "transformer", make_transformer, models.LinenTransformer(**transformer), x


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
            times[name].append(cpu_seconds(way, calls[name]))
    return times


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


def cache_ways(length, features=256, heads=8):
    """Return the ways to compute one more token, when `length` tokens are there."""
    attention = nnx.MultiHeadAttention(heads, features, decode=False, rngs=nnx.Rngs(0))
    # x[batch, length, features]
    x = jax.random.normal(jax.random.key(0), (1, length, features))
    token = x[:, -1:]  # token[batch, 1, features]
    attention.init_cache(x.shape)

    def all_tokens(attention, x):
        return attention(x, is_causal=True)[:, -1:]

    def one_token(attention, token):
        return attention(token, decode=True)

    without = nnx.jit_partial(all_tokens, attention, graph=False)
    with_cache = nnx.jit_partial(one_token, attention, graph=False)
    return {"with": lambda: with_cache(token), "without": lambda: without(x)}


def measure(*, leaves, transformer, lengths, rounds, compiles, seconds, progress):
    """Return all times, by kind, then by model or length, then by way.

    Args:
      leaves: the wide models, name to number of layers.
      transformer: the arguments of the transformer.
      lengths: the numbers of tokens at which decoding is timed.
      rounds: how often each way has its turn.
      compiles: how often each way is compiled anew.
      seconds: about how long a turn takes.
      progress: called with the name of each step before it starts.
    """
    kinds = ("forward", "step", "construct", "compile", "cache")
    found = {kind: {} for kind in kinds}
    for name, make, linen_model, x in cases(leaves, transformer):
        model = make()
        both = (model, linen_model, models.linen_params(model), x)
        forward = partial(ways.forward_ways, *both)
        step = partial(ways.step_ways, *both, jnp.zeros_like(x))
        construct = partial(ways.construct_ways, make, linen_model, x)
        constructor = partial(ways.compiled_constructors, make, linen_model, x)
        timed = {"forward": forward, "step": step, "construct": construct}
        for kind, build in timed.items():
            progress(f"{kind}, {name}")
            found[kind][name] = summary(take_turns(build(), rounds, seconds))
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
    for length in lengths:
        progress(f"cache, {length} tokens")
        times = take_turns(cache_ways(length), rounds, seconds)
        found["cache"][str(length)] = summary(times)
    return found


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
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    steps = 6 * (len(LEAVES) + 1) + len(LENGTHS)
    with Progress() as bar:
        task, done = bar.add_task("", total=steps), itertools.count()

        def progress(name):
            bar.update(task, description=f"{name:28}", completed=next(done))

        found = measure(
            leaves=LEAVES,
            transformer=TRANSFORMER,
            lengths=LENGTHS,
            rounds=ROUNDS,
            compiles=COMPILES,
            seconds=0.03,
            progress=progress,
        )
        bar.update(task, description="done", completed=steps)
    text = json.dumps({**about(ROUNDS), **found}, indent=1)
    RESULT.write_text(text + "\n", "utf-8")
    print(f"Wrote {RESULT.name}. To see the figures on the site: make serve")


if __name__ == "__main__":
    main()
