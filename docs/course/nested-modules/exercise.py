"""The exercise of "Nested modules": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
class LinenEncoder(nn.Module):
    hidden: int
    code: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.hidden)(x))
        return nn.Dense(self.code)(x)


class LinenClassifier(nn.Module):
    hidden: int
    code: int
    classes: int

    @nn.compact
    def __call__(self, x):
        code = LinenEncoder(self.hidden, self.code)(x)
        return nn.Dense(self.classes)(code)


def nested_modules(seed, x, sizes):
    """Return the logits of an NNX classifier with Linen's weights, (..., classes).

    Args:
      seed: seed of the key that initialises `LinenClassifier(*sizes)`, an int.
      x: input, shape (..., in_features), float32.
      sizes: the sizes of the three layers: hidden, code and classes.
    """
    # --8<-- [end:stub]
    linen_model = LinenClassifier(*sizes)
    params = linen_model.init(jax.random.key(seed), x)["params"]
    encoder = params["LinenEncoder_0"]
    renamed = {
        "encoder": {"hidden": encoder["Dense_0"], "code": encoder["Dense_1"]},
        "head": params["Dense_0"],
    }
    model = Classifier(x.shape[-1], *sizes, rngs=nnx.Rngs(0))
    nnx.update(model, renamed)
    return model(x)


class Encoder(nnx.Module):
    def __init__(self, in_features, hidden, code, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(in_features, hidden, rngs=rngs)
        self.code = nnx.Linear(hidden, code, rngs=rngs)

    def __call__(self, x):
        return self.code(nnx.relu(self.hidden(x)))


class Classifier(nnx.Module):
    def __init__(self, in_features, hidden, code, classes, *, rngs: nnx.Rngs):
        self.encoder = Encoder(in_features, hidden, code, rngs=rngs)
        self.head = nnx.Linear(code, classes, rngs=rngs)

    def __call__(self, x):
        return self.head(self.encoder(x))
        # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    rows = jnp.array([[1.0, 2.0, -3.0], [0.5, -1.5, 2.0]])
    page = (0, rows, (5, 2, 3)), (7, rows, (5, 2, 3))
    for seed, x, sizes in [*page, *more]:
        answer = candidate(seed, x, sizes)
        linen_model = LinenClassifier(*sizes)
        right, _ = linen_model.init_with_output(jax.random.key(seed), x)
        if (shape := getattr(answer, "shape", type(answer).__name__)) != right.shape:
            expected = f"an array of shape {right.shape}, not {shape}"
        elif not jnp.allclose(answer, right, atol=1e-5):
            expected = f"what Linen's model returns:\n{right}"
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {sizes})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

# An input that only `nbe` tries: it catches a mistake that the page's own let through.
HIDDEN = [(3, jnp.array([1.25, -3.0, 0.5]), (4, 4, 2))]


def layers_of(params):
    """Return the params of Linen's three layers: hidden, code and head."""
    encoder = params["LinenEncoder_0"]
    return encoder["Dense_0"], encoder["Dense_1"], params["Dense_0"]


def logits(layers, x, factor=1):
    """Return the output of three layers that each return `factor` as much."""
    hidden, code, head = (
        lambda x, layer=layer: factor * (x @ layer["kernel"] + layer["bias"])
        for layer in layers
    )
    return head(code(nn.relu(hidden(x))))


def idea(seen):
    """Return what right numbers lack: a module in a module, with Linen's weights."""
    seed, x, sizes = seen.inputs

    def with_ones(call):  # the biases of Linen's layers begin with zeros
        output = call.proceed()
        if call.module.is_initializing():
            ones = jnp.ones_like(call.module.get_variable("params", "bias"))
            call.module.put_variable("params", "bias", ones)
        return output

    def twice(call):
        return 2 * call.proceed()

    when = "Linen's biases are ones, and an nnx.Linear returns twice as much"
    run = seen.run(when, calls={nn.Dense: with_ones, nnx.Linear: twice})
    params = LinenClassifier(*sizes).init(jax.random.key(seed), x)["params"]
    layers = [{**one, "bias": jnp.ones_like(one["bias"])} for one in layers_of(params)]
    called = [one.before for one in run.calls if isinstance(one.module, nnx.Module)]
    if not called:
        count = sum(one.depth == 0 for one in run.calls)
        return f"no module of NNX is called, and the Linen model {count} times"

    def paths_in(params):  # where a state holds the three layers, or None
        return [
            next((path[:-1] for path in params if holds(params, path, one)), None)
            for one in layers
        ]

    def holds(params, path, layer):  # a kernel, and a bias beside it
        beside = (*path[:-1], "bias") in params
        return beside and seen.close(params[path], layer["kernel"])

    states = [*called, *map(seen.state, run.built)]
    found = [paths_in(state.of(nnx.Param)) for state in states]
    whole = [paths for paths in found if None not in paths]
    if not whole:
        most = max(len(paths) - paths.count(None) for paths in found)
        return f"of Linen's three layers, no module holds more than {most} as nnx.Param"
    if not any(one[:-1] == two[:-1] != three[:-1] for one, two, three in whole):
        return f"the encoder is no submodule: the layers lie at {whole[0]}"

    if seen.close(run.answer, logits(layers, x)):
        return "the logits do not follow what the three nnx.Linear return"
    if not seen.close(run.answer, logits(layers, x, 2)):
        return f"when {when}, your logits do not follow"


def attempt(name, change=lambda renamed: None, classifier=Classifier, load=nnx.update):
    """Return the attempt of a learner who changes one step of the solution.

    Args:
      name: that of the attempt.
      change: what is done to the renamed dict of Linen's weights.
      classifier: the NNX module.
      load: puts the dict into the module.
    """

    def port(seed, x, sizes):
        init = LinenClassifier(*sizes).init(jax.random.key(seed), x)
        hidden, code, head = layers_of(init["params"])
        renamed = {"encoder": {"hidden": hidden, "code": code}, "head": head}
        change(renamed)
        model = classifier(x.shape[-1], *sizes, rngs=nnx.Rngs(0))
        load(model, renamed)
        return model(x)

    port.__name__ = name
    return port


def linen_itself(seed, x, sizes):
    model = LinenClassifier(*sizes)
    return model.apply(model.init(jax.random.key(seed), x), x)


def own_draws(seed, x, sizes):
    return Classifier(x.shape[-1], *sizes, rngs=nnx.Rngs(seed))(x)


def names_kept(seed, x, sizes):
    model = Classifier(x.shape[-1], *sizes, rngs=nnx.Rngs(0))
    nnx.update(model, LinenClassifier(*sizes).init(jax.random.key(seed), x)["params"])
    return model(x)


def with_collection(renamed):
    weights = {**renamed}
    renamed.clear()
    renamed["params"] = weights


def swapped(renamed):
    encoder = renamed["encoder"]
    encoder["hidden"], encoder["code"] = encoder["code"], encoder["hidden"]


def kernels_alone(renamed):
    for layer in (*renamed["encoder"].values(), renamed["head"]):
        del layer["bias"]


def seed_zero(seed, x, sizes):
    return nested_modules(0, x, sizes)


def second_axis(seed, x, sizes):
    return nested_modules(seed, x.reshape(-1, x.shape[1]), sizes)


def formula(seed, x, sizes):
    params = LinenClassifier(*sizes).init(jax.random.key(seed), x)["params"]
    return logits(layers_of(params), x)


def formula_with_assert(seed, x, sizes):
    right = nested_modules(seed, x, sizes)
    assert jnp.allclose(right, formula(seed, x, sizes), atol=1e-5)
    return formula(seed, x, sizes)


class WithoutRelu(Encoder):
    def __call__(self, x):
        return self.code(self.hidden(x))


class TwoRelus(Encoder):
    def __call__(self, x):
        return nnx.relu(super().__call__(x))


def with_encoder(encoder):
    """Return the `Classifier` of a learner who wrote its encoder so."""

    class WithEncoder(Classifier):
        def __init__(self, in_features, hidden, code, classes, *, rngs: nnx.Rngs):
            super().__init__(in_features, hidden, code, classes, rngs=rngs)
            self.encoder = encoder(in_features, hidden, code, rngs=rngs)

    return WithEncoder


class PlainList(nnx.Module):
    def __init__(self, *sizes, rngs: nnx.Rngs):
        self.layers = [nnx.Linear(4, 4, rngs=rngs) for _ in sizes]


PlainList.__module__, PlainList.__name__ = "attempt", "Classifier"
PlainList.__qualname__ = "Classifier"  # as a learner's is called


class Flat(nnx.Module):
    def __init__(self, in_features, hidden, code, classes, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(in_features, hidden, rngs=rngs)
        self.code = nnx.Linear(hidden, code, rngs=rngs)
        self.head = nnx.Linear(code, classes, rngs=rngs)

    def __call__(self, x):
        return self.head(self.code(nnx.relu(self.hidden(x))))


def load_flat(model, renamed):
    nnx.update(model, {**renamed["encoder"], "head": renamed["head"]})


def loose_layers(seed, x, sizes):
    params = LinenClassifier(*sizes).init(jax.random.key(seed), x)["params"]

    def linear(layer):
        made = nnx.Linear(*layer["kernel"].shape, rngs=nnx.Rngs(0))
        nnx.update(made, layer)
        return made

    hidden, code, head = map(linear, layers_of(params))
    return head(code(nnx.relu(hidden(x))))


def set_arrays(model, renamed):
    for name, layer in (("encoder", model.encoder), ("head", model.head)):
        parts = renamed[name].items() if name == "encoder" else [("", renamed[name])]
        for part, arrays in parts:
            target = getattr(layer, part) if part else layer
            target.kernel, target.bias = arrays["kernel"], arrays["bias"]


MISTAKES = {
    linen_itself: "These are Linen's logits: return those of your NNX classifier.",
    own_draws: "These are weights that NNX drew: put Linen's into the model.",
    names_kept: "NNX does not know the names `Dense_0`: use your attributes' names.",
    attempt("with_collection", with_collection): (
        "Leave out the level `params`: a state begins with your attributes."
    ),
    attempt("swapped", swapped): (
        "Linen counts in the order of construction: `Dense_0` is the hidden layer."
    ),
    attempt("kernels_alone", kernels_alone): (
        "The biases are zeros today, and others once trained: load them as well."
    ),
    attempt("without_relu", classifier=with_encoder(WithoutRelu)): (
        "Between the two layers of the encoder stands `nnx.relu`."
    ),
    attempt("two_relus", classifier=with_encoder(TwoRelus)): (
        "After the second layer of the encoder there is no `nnx.relu`."
    ),
    seed_zero: "Linen's weights depend on the seed: use `jax.random.key(seed)`.",
    second_axis: "`x` may be one input, without a batch axis: use `x.shape[-1]`.",
    attempt("plain_list", classifier=PlainList): (
        "A plain list cannot hold modules: use attributes, or `nnx.List`."
    ),
    attempt("flat", classifier=Flat, load=load_flat): (
        "All three layers lie in one module: give the encoder a module of its own."
    ),
    loose_layers: "The layers are loose: make them attributes of one `nnx.Module`.",
    attempt("set_arrays", load=set_arrays): (
        "Bare arrays replace the Params, so nothing can train them: use `nnx.update`."
    ),
    formula: "Build and call your NNX classifier: a formula is no port.",
    formula_with_assert: "Return what the classifier gives, not the formula's numbers.",
}


class Sequence(nnx.Module):
    def __init__(self, in_features, hidden, code, classes, *, rngs: nnx.Rngs):
        first = nnx.Linear(in_features, hidden, rngs=rngs)
        second = nnx.Linear(hidden, code, rngs=rngs)
        self.body = nnx.Sequential(first, nnx.relu, second)
        self.top = nnx.Linear(code, classes, rngs=rngs)

    def __call__(self, x):
        return self.top(self.body(x))


def load_sequence(model, renamed):
    first, _, second = model.body.layers
    nnx.update(first, renamed["encoder"]["hidden"])
    nnx.update(second, renamed["encoder"]["code"])
    nnx.update(model.top, renamed["head"])


def written(model, renamed):
    pairs = (
        (model.encoder.hidden, renamed["encoder"]["hidden"]),
        (
            model.encoder.code,
            renamed["encoder"]["code"],
        ),
    )
    for layer, arrays in (*pairs, (model.head, renamed["head"])):
        layer.kernel[...] = arrays["kernel"]
        layer.bias.set_value(arrays["bias"])


def abstract_and_merged(seed, x, sizes):
    init = LinenClassifier(*sizes).init(jax.random.key(seed), x)
    hidden, code, head = layers_of(init["params"])
    model = nnx.eval_shape(lambda: Classifier(x.shape[-1], *sizes, rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(model)
    renamed = {"encoder": {"hidden": hidden, "code": code}, "head": head}
    nnx.replace_by_pure_dict(state, renamed)
    return jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))(state, x)


ALSO_RIGHT = [
    attempt("sequence", classifier=Sequence, load=load_sequence),
    attempt("written", load=written),
    abstract_and_merged,
]
