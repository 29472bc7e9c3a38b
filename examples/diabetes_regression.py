# %% [markdown]
# ---
# title: One regression, trained twice
# description: >-
#   MyLinear in Flax NNX and its Flax Linen twin, trained with optax on the diabetes
#   data from the same weights: the two loss curves are equal, step by step.
# tags: [nnx.Optimizer, nnx.jit, nnx.value_and_grad, nnx.to_pure_dict]
# ---
#
# A migration is finished when the new code gives the old numbers. This program trains
# one linear model twice, in NNX and in Linen. Both start from the same weights, see the
# same data and use the same optimizer. Every loss agrees, to the last bit.
#
# Besides Flax, it needs optax, matplotlib and scikit-learn. The data ships inside
# scikit-learn: 442 patients, ten measurements each, and how far their diabetes had
# progressed a year later
# ([description](https://scikit-learn.org/stable/datasets/toy_dataset.html)).

# %%
import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from flax import nnx
from sklearn.datasets import load_diabetes

x, y = load_diabetes(return_X_y=True)
train = slice(0, 354)  # the other patients stay unseen
x = jnp.array((x - x[train].mean(axis=0)) / x[train].std(axis=0))
y = jnp.array((y - y[train].mean()) / y[train].std())
x_train, x_test = x[train], x[354:]  # x[batch, features]
y_train, y_test = y[train], y[354:]  # y[batch]
print(x_train.shape, x_test.shape)
#> (354, 10) (88, 10)

# %% [markdown]
# ## The two models
#
# `MyLinear` is the module of the lesson
# [Call versus init](../course/call-vs-init/index.md). Its twin has the same formula and
# the same parameter names, so that the weights of one fit the other.


# %%
class MyLinear(nnx.Module):
    def __init__(self, in_features, out_features, rngs):
        key = rngs.params()
        scale = 1 / jnp.sqrt(in_features)
        kernel = jax.random.normal(key, (in_features, out_features))
        self.kernel = nnx.Param(kernel * scale)
        self.bias = nnx.Param(jnp.zeros((out_features,)))

    def __call__(self, x):
        return x @ self.kernel + self.bias


class LinenLinear(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return x @ kernel + bias


# %% [markdown]
# ## The same weights
#
# `nnx.to_pure_dict` copies the state of the NNX model into a plain dict of arrays. That
# dict is what Linen calls `params`. The Linen model needs no `init` of its own here.

# %%
model = MyLinear(10, 1, rngs=nnx.Rngs(0))
linen_model = LinenLinear(features=1)
params = nnx.to_pure_dict(nnx.state(model, nnx.Param))

same = jnp.array_equal(model(x_test), linen_model.apply({"params": params}, x_test))
print("equal before training:", same)
#> equal before training: True

# %% [markdown]
# ## Two training steps
#
# Read them side by side. In NNX the optimizer changes the model in place, and the step
# returns the loss alone. In Linen the parameters and the optimizer state come in as
# arguments and go out as results.


# %%
def mean_squared_error(predicted, y):
    return jnp.mean((predicted[:, 0] - y) ** 2)


@nnx.jit
def nnx_step(model, optimizer, x, y):
    def loss_of(model):
        return mean_squared_error(model(x), y)

    loss, grads = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, grads)
    return loss


@jax.jit
def linen_step(params, opt_state, x, y):
    def loss_of(params):
        return mean_squared_error(linen_model.apply({"params": params}, x), y)

    loss, grads = jax.value_and_grad(loss_of)(params)
    updates, opt_state = adam.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss


# %% [markdown]
# ## Training
#
# The loops differ in what the caller carries from step to step.

# %%
adam = optax.adam(0.02)
steps = 100

optimizer = nnx.Optimizer(model, adam, wrt=nnx.Param)
nnx_losses = [nnx_step(model, optimizer, x_train, y_train) for _ in range(steps)]

opt_state = adam.init(params)
linen_losses = []
for _ in range(steps):
    params, opt_state, loss = linen_step(params, opt_state, x_train, y_train)
    linen_losses.append(loss)

nnx_losses, linen_losses = jnp.array(nnx_losses), jnp.array(linen_losses)
print(f"first loss {nnx_losses[0]:.3f}, last loss {nnx_losses[-1]:.3f}")
#> first loss 3.067, last loss 0.495
print("loss curves equal:", jnp.array_equal(nnx_losses, linen_losses))
#> loss curves equal: True

# %% [markdown]
# ## The curves
#
# The dashed Linen curve lies on the NNX curve.

# %% alt="Loss over 100 steps: the NNX and the Linen curve fall together."
figure, axes = plt.subplots()
axes.plot(nnx_losses, label="NNX", color="#2f7de1", linewidth=6, alpha=0.55)
axes.plot(linen_losses, label="Linen", color="#d9822b", linestyle="--")
axes.set(xlabel="step", ylabel="mean squared error")
axes.legend()
plt.show()

# %% [markdown]
# ## What was learned
#
# The trained models agree too, on patients that neither was trained on. The coefficient
# of determination, R², is 1 for a perfect model and 0 for one that knows only the mean.

# %%
predicted = model(x_test)
linen_predicted = linen_model.apply({"params": params}, x_test)
r2 = 1 - mean_squared_error(predicted, y_test) / jnp.var(y_test)
print("equal after training:", jnp.array_equal(predicted, linen_predicted))
#> equal after training: True
print(f"R² {r2:.2f}")
#> R² 0.55
