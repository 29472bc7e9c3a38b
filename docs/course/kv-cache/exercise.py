"""The exercise of "KV cache": stub, solution, check, and attempts to judge.

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
        self.layers = nnx.List()
        for _ in range(2):
            layer = nnx.MultiHeadAttention(2, features, decode=False, rngs=rngs)
            self.layers.append(layer)
        self.head = nnx.Linear(features, vocabulary, rngs=rngs)

    def __call__(self, tokens, decode=False):  # tokens[batch, length]
        x = self.embed(tokens)
        for layer in self.layers:
            x = x + layer(x, is_causal=not decode, decode=decode)
        return self.head(x)


def attention_layers(model):
    parts = [part for _, part in nnx.iter_modules(model)]
    return [part for part in parts if isinstance(part, nnx.MultiHeadAttention)]
    # --8<-- [end:model]


@nnx.jit(donate_argnums=0)
def log_probabilities(model, token):
    logits = model(token.reshape(1, 1), decode=True)
    return jax.nn.log_softmax(logits[0, 0])


# --8<-- [start:stub]
def score_endings(seed, prompt, endings):
    """Return the log-probability of each ending after the prompt, shape (endings,).

    It is the sum of the log-probabilities of the ending's tokens, each after all tokens
    before it, by `Decoder(10, 8, rngs=nnx.Rngs(seed))`.

    Args:
      seed: seed of `nnx.Rngs`, an integer.
      prompt: at least one token, shape (prompt_length,), int32.
      endings: at least one ending, shape (endings, length), int32.
    """
    # --8<-- [end:stub]
    model, scores = Decoder(10, 8, rngs=nnx.Rngs(seed)), []
    for layer in attention_layers(model):
        layer.init_cache((1, prompt.size + endings.shape[1], layer.in_features))
    for token in prompt:
        after_prompt = log_probabilities(model, token)
    for ending in endings:
        for layer in attention_layers(model):
            layer.cache_index[...] = prompt.size
        score, following = 0.0, after_prompt
        for token in ending:
            score += following[token]
            following = log_probabilities(model, token)
        scores.append(score)
    return jnp.stack(scores)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = [(1, [2, 3], [[4, 5], [1, 8]]), (7, [3, 9, 0], [[2], [6]])]
    for seed, *tokens in [*page, *more]:
        prompt, endings = map(jnp.array, tokens)
        answer = candidate(seed, prompt, endings)
        texts = jnp.array([[*prompt, *ending] for ending in endings])
        logits = Decoder(10, 8, rngs=nnx.Rngs(seed))(texts[:, :-1])
        found = jax.nn.log_softmax(logits)[:, prompt.size - 1 :]
        wanted = jnp.take_along_axis(found, endings[..., None], axis=2).sum(axis=(1, 2))
        if getattr(answer, "shape", None) != wanted.shape:
            expected = f"an array of shape {wanted.shape}, not {type(answer).__name__}"
        elif not jnp.allclose(answer, wanted, atol=1e-4):
            expected = wanted.round(4)
        else:
            continue
        arrays = f"jnp.array({prompt.tolist()}), jnp.array({endings.tolist()})"
        call = f"{candidate.__name__}({seed}, {arrays})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import itertools
from functools import partial

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5, jnp.array([8, 8, 1, 0, 2]), jnp.array([[4, 4, 0], [0, 1, 9]])),  # long
    (3, jnp.array([6, 1, 7]), jnp.array([[9]])),  # one ending
]


def idea(seen):
    """Return what right scores lack: each prompt token decoded once, then a rewind."""
    seed, prompt, endings = seen.inputs

    def decodes(call):
        return not call.before.same(seen.state(call.module), nnx.Cache)

    calls = seen.run().calls_of(nnx.MultiHeadAttention)
    decoding = [c for c in calls if not c.before.same(c.after, nnx.Cache)]
    if not decoding:
        return "no call decodes: pass one token at a time, with decode=True"
    passed = sum(call.output.shape[0] for call in decoding) // 2  # of two layers
    if passed > (most := prompt.size + endings.size):  # each token once
        return f"{passed} tokens pass through the cache, not {most}"

    def silent(call, alone):
        y = call.proceed()
        return jnp.zeros_like(y) if decodes(call) or not alone else y

    model = Decoder(10, 8, rngs=nnx.Rngs(seed))
    logs = jax.nn.log_softmax(model.head(model.embed(jnp.arange(10))))
    rights = []
    for ending in endings.tolist():
        pairs = itertools.pairwise([int(prompt[-1]), *ending])
        rights.append(sum(float(logs[pair]) for pair in pairs))
    for alone in (True, False):  # passes that it may compare with return zeros as well
        hooks = {nnx.MultiHeadAttention: partial(silent, alone=alone)}
        try:
            found = seen.run("decoding calls return zeros", calls=hooks).answer
        except seen.Finding:
            if not alone:
                raise
            continue
        if not seen.close(found, rights):
            return "the scores do not follow what the decoding calls return"
        return None


def ready(seed, length, batch=1, layers=slice(None)):
    """Return the model with caches of some length, maybe in some layers alone."""
    model = Decoder(10, 8, rngs=nnx.Rngs(seed))
    for layer in attention_layers(model)[layers]:
        layer.init_cache((batch, length, 8))
    return model


def rewind(model, to, layers=slice(None)):
    for layer in attention_layers(model)[layers]:
        layer.cache_index[...] = to


def scores(
    seed,
    prompt,
    endings,
    *,
    length=None,
    layers=slice(None),
    step=log_probabilities,
    back=rewind,
    to=0,
    ahead=False,
    total=sum,
):
    """Return the scores, where an attempt may do one step in another way."""
    length = length or prompt.size + endings.shape[1]
    model, found = ready(seed, length, layers=layers), []
    for token in prompt:
        start = step(model, token)
    for ending in endings:
        back(model, prompt.size + to)
        logs, following = [], start
        for token in ending:
            after = step(model, token)
            logs.append((after if ahead else following)[token])
            following = after
        found.append(total(logs))
    return jnp.stack(found)


def attempt(name, base=scores, **changed):
    """Return an attempt that does one step of the solution in another way."""

    def scored(seed, prompt, endings):
        return base(seed, prompt, endings, **changed)

    scored.__name__ = name
    return scored


def full(seed, prompt, endings, start=None, act=jax.nn.log_softmax):
    """Return the scores by full passes, from some place on."""
    texts = jnp.array([[*prompt, *ending] for ending in endings])
    logs = act(Decoder(10, 8, rngs=nnx.Rngs(seed))(texts[:, :-1]))
    found = jnp.take_along_axis(logs, texts[:, 1:, None], axis=2)[..., 0]
    return found[:, prompt.size - 1 if start is None else start :].sum(axis=1)


def cache_not_made(seed, prompt, endings):
    return log_probabilities(Decoder(10, 8, rngs=nnx.Rngs(seed)), prompt[0])


def prompt_in_one_call(seed, prompt, endings):
    return ready(seed, 9)(prompt[None], decode=True)


def prompt_for_each_ending(seed, prompt, endings):
    parts = [scores(seed, prompt, ending[None]) for ending in endings]
    return jnp.concatenate(parts)


def one_at_most(*inputs):
    return jnp.squeeze(scores(*inputs))


@jax.jit
def jax_jit_step(model, token):
    return jax.nn.log_softmax(model(token[None, None], decode=True)[0, 0])


def formula_with_assert(*inputs):
    found, decoded = full(*inputs), scores(*inputs)
    assert jnp.allclose(found, decoded, atol=1e-4)
    return found


MISTAKES = {
    cache_not_made: "Call `init_cache` of both layers before the first token.",
    prompt_in_one_call: "A decoding call takes one token: loop over the prompt.",
    attempt("not_rewound", back=lambda model, to: None): (
        "The second ending goes on behind the first: set `cache_index` back."
    ),
    attempt("rewound_to_zero", back=lambda model, to: rewind(model, 0)): (
        "Index 0 forgets the prompt: set it to the prompt's length."
    ),
    attempt("rewound_too_far", to=-1): (
        "An ending replaces the prompt's last token: go back one step less."
    ),
    attempt("one_layer_rewound", back=partial(rewind, layers=slice(1))): (
        "Set the index of both layers back."
    ),
    attempt("capacity_of_six", length=6): "A text may be longer: compute the capacity.",
    attempt("step_in_jax_jit", step=jax_jit_step): (
        "`jax.jit` drops what the step writes: use `nnx.jit`."
    ),
    attempt("own_token_scored", ahead=True): (
        "A token is scored by the call before it, not by its own."
    ),
    attempt("mean_of_tokens", total=lambda logs: sum(logs) / len(logs)): (
        "Return the sum over an ending's tokens, not the mean."
    ),
    attempt("prompt_scored_too", base=full, start=0): (
        "Score the ending alone: the prompt is given."
    ),
    attempt("logits_added", base=full, act=jnp.array): (
        "Logits are not normalised: apply `jax.nn.log_softmax`."
    ),
    one_at_most: "A single ending needs its axis: return shape (1,).",
    prompt_for_each_ending: "Pass the prompt once, and go back to its end.",
    attempt("full_passes", base=full): "Use the cache: no full pass is needed.",
    formula_with_assert: "Return what the decoding calls give.",
}


def of_copies(seed, prompt, endings):
    model = ready(seed, prompt.size + endings.shape[1])
    for token in prompt:
        start = log_probabilities(model, token)
    found = []
    for ending in endings:
        copy, following, score = nnx.clone(model, arrays=True), start, 0.0
        for token in ending:
            score += following[token]
            following = log_probabilities(copy, token)
        found.append(score)
    return jnp.array(found)


def in_a_batch(seed, prompt, endings):
    length = prompt.size + endings.shape[1]
    one, many = ready(seed, length), ready(seed, length, batch=len(endings))
    for token in prompt:
        logs = jax.nn.log_softmax(one(token[None, None], decode=True)[:, 0])
    for old, new in zip(attention_layers(one), attention_layers(many), strict=True):
        new.cached_key[...] = jnp.repeat(old.cached_key[...], len(endings), axis=0)
        new.cached_value[...] = jnp.repeat(old.cached_value[...], len(endings), axis=0)
        new.cache_index[...] = old.cache_index[...]
    score = jnp.take_along_axis(logs, endings[:, :1].T, axis=1)[0]
    for t in range(1, endings.shape[1]):
        logits = many(endings[:, t - 1 : t], decode=True)[:, 0]
        logs = jax.nn.log_softmax(logits)
        score += jnp.take_along_axis(logs, endings[:, t : t + 1], axis=1)[:, 0]
    return score


def by_pure_state(seed, prompt, endings):
    model = ready(seed, prompt.size + endings.shape[1])
    graphdef, cache, rest = nnx.split(model, nnx.Cache, ...)

    @jax.jit
    def step(cache, token):
        model = nnx.merge(graphdef, cache, rest, copy=True)
        logits = model(token[None, None], decode=True)[0, 0]
        return jax.nn.log_softmax(logits), nnx.as_pure(nnx.state(model, nnx.Cache))

    cache, found = nnx.as_pure(cache), []
    for token in prompt:
        start, cache = step(cache, token)
    for ending in endings:
        logs, following, after = [], start, cache
        for token in ending:
            logs.append(following[token])
            following, after = step(after, token)
        found.append(sum(logs))
    return jnp.stack(found)


def compared(*inputs):
    found = scores(*inputs)
    if not jnp.allclose(found, full(*inputs), atol=1e-4):
        raise ValueError("the cache is wrong")
    return found


ALSO_RIGHT = [of_copies, in_a_batch, by_pure_state, compared]
