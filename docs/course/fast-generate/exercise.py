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
def sample(seed, prompt, steps, temperature):
    """Return the tokens drawn after the prompt, shape (steps,), int32.

    Draw i is `jax.random.categorical(key, logits / temperature)` with key i, from 0, of
    `nnx.Rngs(sample=seed)`. The model is `Decoder(10, 8, rngs=nnx.Rngs(seed))`.

    Args:
      seed: seed of both `nnx.Rngs`, an integer.
      prompt: at least one token, shape (prompt_length,), int32.
      steps: how many tokens to draw, at least 1.
      temperature: divides the logits; above 0.
    """
    # --8<-- [end:stub]
    model = Decoder(10, 8, rngs=nnx.Rngs(seed))
    model.new_cache(1, prompt.size + steps)

    @nnx.scan
    def read(model, token):
        return model, model(token[None, None])[0, 0]

    @nnx.scan(length=steps)
    def write(carry, _):
        model, rngs, logits = carry
        token = jax.random.categorical(rngs.sample(), logits / temperature)
        return (model, rngs, model(token[None, None])[0, 0]), token

    model, logits = read(model, prompt)
    _, text = write((model, nnx.Rngs(sample=seed), logits[-1]), None)
    return text
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = [(0, jnp.array([1, 2, 3]), 4, 1.0), (7, jnp.array([5]), 6, 0.5)]
    for seed, prompt, steps, temperature in [*page, *more]:
        answer = candidate(seed, prompt, steps, temperature)
        model, rngs = Decoder(10, 8, rngs=nnx.Rngs(seed)), nnx.Rngs(sample=seed)
        text = jnp.concatenate([prompt, jnp.zeros(steps, int)])[None]
        for t in range(prompt.size, text.size):
            x = model.embed(text)  # later tokens are hidden
            y = x + model.attention(x, is_causal=True, decode=False)
            logits = model.head(y[0, t - 1]) / temperature
            text = text.at[0, t].set(jax.random.categorical(rngs.sample(), logits))
        right = text[0, prompt.size :]
        if getattr(answer, "shape", None) != right.shape:
            expected = f"an array of shape {right.shape}, not {type(answer).__name__}"
        elif not jnp.array_equal(answer, right):
            expected = right
        else:
            continue
        inputs = f"{seed}, jnp.array({prompt.tolist()}), {steps}, {temperature}"
        call = f"{candidate.__name__}({inputs})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [(3, jnp.array([2, 9, 4, 0, 6]), 7, 2.0)]  # more tokens than those of the page


def idea(seen):
    """Return what right tokens lack: a loop of JAX, whose draws the tokens follow."""
    _, prompt, steps, _ = seen.inputs
    calls = seen.run().calls_of(Decoder)
    if not calls:
        return "no Decoder is called"
    outside = [call for call in calls if not call.inside(jax.lax.scan)]
    if len(outside) > 1:
        return f"Python calls the model for {len(outside)} tokens: let nnx.scan do it"

    def next_number(call):
        tokens = call.args[0] if call.args else call.kwargs["tokens"]
        return 1e4 * jax.nn.one_hot((tokens + 1) % 10, 10)

    hooks = {Decoder: next_number}
    counted = seen.run("the model says the next number", calls=hooks).answer
    if not seen.close(counted, (prompt[-1] + 1 + jnp.arange(steps)) % 10):
        return "the tokens do not follow what the model returns for the token before"

    def other_key(call):
        return jax.random.fold_in(call.proceed(), 99)

    hooks = {nnx.RngStream.__call__: other_key, Decoder: even}
    other = seen.run("a stream gives other keys", calls=hooks).answer
    same = seen.run("all tokens are as likely", calls={Decoder: even}).answer
    if seen.close(other, same):
        return "the draws do not come from a stream of nnx.Rngs"
    return None


def even(call):
    tokens = call.args[0] if call.args else call.kwargs["tokens"]
    return jnp.zeros((*tokens.shape, 10))


GRAPH = {"graph": True, "graph_updates": True}


def drawn_token(key, logits, temperature):
    return jax.random.categorical(key, logits / temperature)


def new_key(rngs, _):
    return rngs.sample()


def sampled(
    seed,
    prompt,
    steps,
    temperature,
    *,
    capacity=None,
    pick=drawn_token,
    key=new_key,
    stream=None,
    start=-1,
    reset=False,
):
    """Return the tokens, where an attempt may do one step in another way."""
    model = Decoder(10, 8, rngs=nnx.Rngs(seed))
    model.new_cache(1, capacity or prompt.size + steps)
    rngs = stream(seed, prompt) if stream else nnx.Rngs(sample=seed)

    def read(model, token):
        return model, model(token[None, None])[0, 0]

    def write(carry, i):
        model, rngs, logits = carry
        token = pick(key(rngs, i), logits, temperature).astype(jnp.int32)
        return (model, rngs, model(token[None, None])[0, 0]), token

    model, logits = nnx.scan(read)(model, prompt)
    if reset:
        model.attention.cache_index[...] = 0
    carry = model, rngs, logits[start]
    return nnx.scan(write)(carry, jnp.arange(steps))[1]


def attempt(name, **changed):
    """Return an attempt that does one step of the solution in another way."""

    def tokens(seed, prompt, steps, temperature):
        return sampled(seed, prompt, steps, temperature, **changed)

    tokens.__name__ = name
    return tokens


def first_key(rngs, _):
    return rngs.sample.key[...]


def folded_key(rngs, i):
    return jax.random.fold_in(rngs.sample.key[...], i + 1)


def greedy(key, logits, temperature):
    return logits.argmax()


def of_probabilities(key, logits, temperature):
    return jax.random.categorical(key, jax.nn.softmax(logits / temperature))


def after_the_prompt(seed, prompt):
    rngs = nnx.Rngs(sample=seed)
    for _ in prompt:
        rngs.sample()
    return rngs


def with_prompt(seed, prompt, steps, temperature):
    text = sampled(seed, prompt, steps, temperature)
    return jnp.concatenate([prompt, text])


def one_late(seed, prompt, steps, temperature):
    text = sampled(seed, prompt, steps, temperature)
    return jnp.concatenate([prompt[-1:], text[:-1]])


def python_loop(seed, prompt, steps, temperature):
    model, rngs = Decoder(10, 8, rngs=nnx.Rngs(seed)), nnx.Rngs(sample=seed)
    model.new_cache(1, prompt.size + steps)
    for token in prompt:
        logits = model(token[None, None])[0, 0]
    text = []
    for _ in range(steps):
        text.append(jax.random.categorical(rngs.sample(), logits / temperature))
        logits = model(text[-1][None, None])[0, 0]
    return jnp.stack(text)


def at_none(seed, prompt, steps, temperature):
    model = Decoder(10, 8, rngs=nnx.Rngs(seed))
    model.new_cache(1, prompt.size + steps)

    def read(model, token):
        return model, model(token[None, None])[0, 0]

    def write(model, carry):
        rngs, logits = carry
        token = jax.random.categorical(rngs.sample(), logits / temperature)
        return (rngs, model(token[None, None])[0, 0]), token

    model, logits = nnx.scan(read)(model, prompt)
    axes = {"in_axes": (None, nnx.Carry), "out_axes": (nnx.Carry, 0)}
    carry = nnx.Rngs(sample=seed), logits[-1]
    return nnx.scan(write, length=steps, **axes, **GRAPH)(model, carry)[1]


MISTAKES = {
    python_loop: "Let `nnx.scan` make the steps: put model and streams into the carry.",
    at_none: "At `None`, graph mode drops the cache of each step: carry the model.",
    attempt("one_key", key=first_key): (
        "Each draw needs a key of its own: call the stream in every step."
    ),
    attempt("keys_from_one", key=folded_key): "The first draw takes key 0.",
    attempt("key_for_each_prompt_token", stream=after_the_prompt): (
        "Draw no keys for the prompt: the first new token takes key 0."
    ),
    attempt("likeliest", pick=greedy): "Draw the token, do not take the likeliest.",
    attempt("heated", pick=lambda k, x, t: drawn_token(k, x, 1 / t)): (
        "Divide the logits by the temperature."
    ),
    attempt("cold", pick=lambda k, x, t: drawn_token(k, x, 1.0)): (
        "The temperature is ignored: divide the logits by it."
    ),
    attempt("probabilities_as_logits", pick=of_probabilities): (
        "`jax.random.categorical` takes logits, not probabilities."
    ),
    attempt(
        "start_at_first", start=0
    ): "Go on from the logits of the last prompt token.",
    attempt("prompt_forgotten", reset=True): (
        "The cache goes on behind the prompt: do not set its index back."
    ),
    attempt("capacity_of_eight", capacity=8): (
        "A text may be longer: compute the capacity."
    ),
    with_prompt: "Return the drawn tokens alone.",
    one_late: "The first token that you return is the first that you draw.",
}


def in_a_fori_loop(seed, prompt, steps, temperature):
    model, rngs = Decoder(10, 8, rngs=nnx.Rngs(seed)), nnx.Rngs(sample=seed)
    model.new_cache(1, prompt.size + steps)
    text = jnp.concatenate([prompt, jnp.zeros(steps, jnp.int32)])

    def one(t, carry):
        model, rngs, text = carry
        logits = model(text[t][None, None])[0, 0] / temperature
        token = jax.random.categorical(rngs.sample(), logits)
        return model, rngs, text.at[t + 1].set(token)

    def known(t, model):
        model(text[t][None, None])
        return model

    model = nnx.fori_loop(0, prompt.size - 1, known, model)
    carry = model, rngs, text
    last = prompt.size + steps - 1
    _, _, text = nnx.fori_loop(prompt.size - 1, last, one, carry)
    return text[prompt.size :]


@nnx.jit(static_argnums=3, donate_argnums=0)
def written(model, prompt, rngs, steps, temperature):
    @nnx.scan
    def write(carry, i):
        model, rngs, last = carry
        token = jnp.where(i < prompt.size, prompt[i], last)
        logits = model(token[None, None])[0, 0] / temperature
        count = rngs.sample.count[...]
        last = jax.random.categorical(rngs.sample(), logits)
        rngs.sample.count[...] = count + (i >= prompt.size - 1)
        return (model, rngs, last), last

    carry = model, rngs, prompt[0]
    return write(carry, jnp.arange(prompt.size + steps - 1))[1][-steps:]


def in_one_scan(seed, prompt, steps, temperature):
    model = Decoder(10, 8, rngs=nnx.Rngs(seed))
    model.new_cache(1, prompt.size + steps)
    return written(model, prompt, nnx.Rngs(sample=seed), steps, temperature)


def by_lax_scan(seed, prompt, steps, temperature):
    model = Decoder(10, 8, rngs=nnx.Rngs(seed))
    model.new_cache(1, prompt.size + steps)
    rngs = nnx.Rngs(sample=seed)

    def read(model, token):
        return model, model(token[None, None])[0, 0]

    def write(carry, key):
        model, logits = carry
        token = jax.random.categorical(key, logits / temperature)
        return (model, model(token[None, None])[0, 0]), token

    model, logits = jax.lax.scan(read, model, prompt)
    drawn = jnp.stack([rngs.sample() for _ in range(steps)])
    return jax.lax.scan(write, (model, logits[-1]), drawn)[1]


ALSO_RIGHT = [in_a_fori_loop, in_one_scan, by_lax_scan]
