"""The exercise of "Fast generation": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
from flax import nnx


class Decoder(nnx.Module):
    def __init__(self, vocabulary, features, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(vocabulary, features, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, features, decode=True, rngs=rngs)
        self.head = nnx.Linear(features, vocabulary, rngs=rngs)

    def __call__(self, tokens):  # tokens[batch, 1]
        x = self.embed(tokens)
        return self.head(x + self.attention(x))

    def new_cache(self, batch, length):
        self.attention.init_cache((batch, length, self.attention.in_features))
        # --8<-- [end:model]


# --8<-- [start:stub]
def sample_log_probs(seed, prompt, steps, temperature):
    """Return the log-probability of each token drawn after the prompt, shape (steps,).

    Draw i is `jax.random.categorical(key, logits / temperature)` with key i, from 0, of
    `nnx.Rngs(sample=seed)`. The model is `Decoder(8, 8, rngs=nnx.Rngs(seed))`.

    Args:
      seed: seed of both `nnx.Rngs`, an integer.
      prompt: at least one token, shape (prompt_length,), int32.
      steps: how many tokens to draw, at least 1.
      temperature: divides the logits; above 0.
    """
    # --8<-- [end:stub]
    model = Decoder(8, 8, rngs=nnx.Rngs(seed))
    model.new_cache(1, prompt.size + steps)

    @nnx.scan
    def read(model, token):
        return model, model(token[None, None])[0, 0]

    @nnx.scan(length=steps)
    def draw(carry, _):
        model, rngs, logits = carry
        logs = jax.nn.log_softmax(logits / temperature)
        token = jax.random.categorical(rngs.sample(), logs)
        return (model, rngs, model(token[None, None])[0, 0]), logs[token]

    model, logits = read(model, prompt)
    return draw((model, nnx.Rngs(sample=seed), logits[-1]), None)[1]
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = [(0, [1, 2, 3], 4, 1.0), (7, [5, 0, 2], 4, 0.5)]
    for seed, prompt, steps, temperature in [*page, *more]:
        answer = candidate(seed, jnp.array(prompt), steps, temperature)
        model, rngs = Decoder(8, 8, rngs=nnx.Rngs(seed)), nnx.Rngs(sample=seed)
        text = jnp.array([*prompt, *steps * [0]])
        for t in range(len(prompt), text.size):
            x = model.embed(text[None])  # no position sees later tokens
            y = x + model.attention(x, is_causal=True, decode=False)
            logs = jax.nn.log_softmax(model.head(y[0]) / temperature)
            text = text.at[t].set(jax.random.categorical(rngs.sample(), logs[t - 1]))
        right = jnp.take_along_axis(logs[:-1], text[1:, None], axis=1)[-steps:, 0]
        shape = getattr(answer, "shape", None)
        if shape == right.shape and jnp.allclose(answer, right, atol=1e-4):
            continue
        inputs = f"{seed}, jnp.array({[*map(int, prompt)]}), {steps}, {temperature}"
        call = f"{candidate.__name__}({inputs})"
        return f"{call}\n  expected: {right.round(3)}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

from functools import partial

HIDDEN = [(3, jnp.array([2, 7, 4, 0, 6]), 2, 2.0)]  # two steps, a longer prompt


def idea(seen):
    """Return what right numbers lack: a loop of JAX that follows model and stream."""
    seed, prompt, steps, temperature = seen.inputs
    passed, ramp = [], jnp.arange(8.0) / 3

    def noted(call):
        passed.append(call.args[0])
        return call.proceed()

    def turned(call):  # in place of the logits, numbers that tell which token came
        return ramp[(jnp.arange(8) - passed[-1][..., None]) % 8]

    def other_key(call):
        return jax.random.fold_in(call.proceed(), 99)

    hooks = {nnx.Embed: noted, nnx.Linear: turned, nnx.RngStream.__call__: other_key}
    run = seen.run("logits and keys are other ones", calls=hooks)
    calls = run.calls_of(nnx.Embed)
    if not calls:
        return "no Decoder is called"
    outside = [c for c in calls if not (c.compiled or c.inside(jax.lax.scan))]
    if len(outside) > 1:  # the first token may be read by itself
        return f"Python calls the model for {len(outside)} tokens: let nnx.scan do it"

    stream, token, right = nnx.Rngs(sample=seed), prompt[-1], []
    for _ in range(steps):
        logs = jax.nn.log_softmax(jnp.roll(ramp, token) / temperature)
        token = jax.random.categorical(jax.random.fold_in(stream.sample(), 99), logs)
        right.append(logs[token])
    if not seen.close(run.answer, jnp.stack(right)):
        return "the numbers do not follow the model's logits and the stream's keys"
    return None


GRAPH = {"graph": True, "graph_updates": True}


def ready(seed, prompt, steps):
    """Return the model with an empty cache."""
    model = Decoder(8, 8, rngs=nnx.Rngs(seed))
    model.new_cache(1, prompt.size + steps)
    return model


def read_one(model, token):
    return model, model(token[None, None])[0, 0]


@nnx.jit
def read(model, prompt):
    return nnx.scan(read_one)(model, prompt)[1]


def own_key(rngs, i):
    return rngs.sample()


def first_key(rngs, i):
    return rngs.sample.key[...]


def second_key_first(rngs, i):
    return jax.random.fold_in(rngs.sample.key[...], i + 1)


def likeliest(key, logs):
    return logs.argmax()


def of_probabilities(key, logs):
    return jax.random.categorical(key, jnp.exp(logs))


@nnx.jit(static_argnums=(0, 1, 2))
def draws(steps, key, pick, model, rngs, logits, temperature):
    @nnx.scan
    def draw(carry, i):
        model, rngs, logits = carry
        logs = jax.nn.log_softmax(logits / temperature)
        token = pick(key(rngs, i), logs).astype(jnp.int32)
        return (model, rngs, read_one(model, token)[1]), (logs[token], logits[token])

    return draw((model, rngs, logits), jnp.arange(steps))[1]


def drawn(
    seed,
    prompt,
    steps,
    temperature,
    *,
    key=own_key,
    pick=jax.random.categorical,
    heat=float,
    skipped=False,
    start=-1,
    forgotten=False,
    raw=False,
):
    """Return the answer, where an attempt may do one step in another way."""
    model, rngs = ready(seed, prompt, steps), nnx.Rngs(sample=seed)
    logits = read(model, prompt)[start]
    for _ in prompt if skipped else ():
        rngs.sample()
    if forgotten:
        model.attention.cache_index[...] = 0
    inputs = model, rngs, logits, heat(temperature)
    return draws(steps, key, pick, *inputs)[raw]


def attempt(name, **changed):
    """Return an attempt that does one step of the solution in another way."""

    def log_probs(seed, prompt, steps, temperature):
        return drawn(seed, prompt, steps, temperature, **changed)

    log_probs.__name__ = name
    return log_probs


def python_loop(seed, prompt, steps, temperature):
    model, rngs, found = ready(seed, prompt, steps), nnx.Rngs(sample=seed), []
    for token in prompt:
        logits = model(token[None, None])[0, 0]
    for _ in range(steps):
        logs = jax.nn.log_softmax(logits / temperature)
        token = jax.random.categorical(rngs.sample(), logs)
        found.append(logs[token])
        logits = model(token[None, None])[0, 0]
    return jnp.stack(found)


def at_none(seed, prompt, steps, temperature):
    def draw(model, carry):
        rngs, logits = carry
        logs = jax.nn.log_softmax(logits / temperature)
        token = jax.random.categorical(rngs.sample(), logs)
        return (rngs, model(token[None, None])[0, 0]), logs[token]

    model = ready(seed, prompt, steps)
    carry = nnx.Rngs(sample=seed), read(model, prompt)[-1]
    axes = {"in_axes": (None, nnx.Carry), "out_axes": (nnx.Carry, 0)}
    return nnx.scan(draw, length=steps, **axes, **GRAPH)(model, carry)[1]


def four_steps(seed, prompt, steps, temperature):
    return drawn(seed, prompt, 4, temperature)


def summed(*inputs):
    return drawn(*inputs).sum()


MISTAKES = {
    python_loop: "Let `nnx.scan` make the steps: put model and streams into the carry.",
    at_none: "At `None`, graph mode drops the cache of each step: carry the model.",
    attempt("one_key", key=first_key): (
        "Each draw needs a key of its own: call the stream in every step."
    ),
    attempt("second_key_first", key=second_key_first): "The first draw takes key 0.",
    attempt("key_for_each_prompt_token", skipped=True): (
        "Draw no keys for the prompt: the first new token takes key 0."
    ),
    attempt("likeliest_token", pick=likeliest): (
        "Draw the token, do not take the likeliest."
    ),
    attempt("probabilities_as_logits", pick=of_probabilities): (
        "`jax.random.categorical` takes logits, not probabilities."
    ),
    attempt("heated", heat=lambda temperature: 1 / temperature): (
        "Divide the logits by the temperature."
    ),
    attempt("not_heated", heat=lambda temperature: 1.0): (
        "The temperature is ignored: divide the logits by it."
    ),
    attempt("raw_logits", raw=True): "Normalise: apply `jax.nn.log_softmax`.",
    attempt(
        "start_at_first", start=0
    ): "Go on from the logits of the last prompt token.",
    attempt("prompt_forgotten", forgotten=True): (
        "The cache goes on behind the prompt: do not set its index back."
    ),
    four_steps: "Draw `steps` tokens, not always four.",
    summed: "Return one number for each token, not their sum.",
}


def in_a_fori_loop(seed, prompt, steps, temperature):
    def draw(t, carry):
        model, rngs, logits, found = carry
        logs = jax.nn.log_softmax(logits / temperature)
        token = jax.random.categorical(rngs.sample(), logs)
        logits = model(token[None, None])[0, 0]
        return model, rngs, logits, found.at[t].set(logs[token])

    model = ready(seed, prompt, steps)
    carry = model, nnx.Rngs(sample=seed), read(model, prompt)[-1], jnp.zeros(steps)
    return nnx.fori_loop(0, steps, draw, carry)[-1]


@partial(nnx.jit, static_argnums=3)
def in_one(model, prompt, rngs, steps, temperature):
    def step(carry, i):
        model, rngs, token = carry
        token = jnp.where(i < prompt.size, prompt[i], token)
        logs = jax.nn.log_softmax(model(token[None, None])[0, 0] / temperature)
        count = rngs.sample.count[...]
        token = jax.random.categorical(rngs.sample(), logs)
        rngs.sample.count[...] = count + (i >= prompt.size - 1)
        return (model, rngs, token), logs[token]

    carry, length = (model, rngs, prompt[0]), prompt.size + steps - 1
    return nnx.scan(step)(carry, jnp.arange(length))[1][-steps:]


def in_one_scan(seed, prompt, steps, temperature):
    model = ready(seed, prompt, steps)
    return in_one(model, prompt, nnx.Rngs(sample=seed), steps, temperature)


def by_lax_scan(seed, prompt, steps, temperature):
    def draw(carry, key):
        model, logits = carry
        logs = jax.nn.log_softmax(logits / temperature)
        token = jax.random.categorical(key, logs)
        return (model, model(token[None, None])[0, 0]), logs[token]

    rngs = nnx.Rngs(sample=seed)
    model, logits = jax.lax.scan(read_one, ready(seed, prompt, steps), prompt)
    keys = jnp.stack([rngs.sample() for _ in range(steps)])
    return jax.lax.scan(draw, (model, logits[-1]), keys)[1]


ALSO_RIGHT = [in_a_fori_loop, in_one_scan, by_lax_scan]
