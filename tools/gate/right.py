"""Right pages in unusual forms that are allowed: each of them has to be accepted."""

NNX = "import jax\nimport jax.numpy as jnp\nfrom flax import nnx\n\n"
BLOCK = "    ```python\n    print(1)\n    #> 1\n    ```\n"

# Where a block may stand on a page.
PLACES = {
    "tabs": f'=== "NNX"\n\n{BLOCK}\n=== "Linen"\n\n{BLOCK}\n',
    "an admonition": f"!!! note\n\n    Text.\n\n{BLOCK}",
    "a folded part": f'??? tip "Hint"\n\n    Text.\n\n{BLOCK}\n    Text.\n',
    "a list": f"1. Text:\n\n{BLOCK}\n2. Text.\n",
    "a div": f'<div class="drawings" markdown>\n\n- Text:\n\n{BLOCK}\n</div>\n',
    "the first line": "```python\nprint(1)\n#> 1\n```\n",
    "no line between": "Text.\n```python\nprint(1)\n#> 1\n```\nText.\n",
    "front matter": "---\ntitle: A page\ntags: [nnx.Param]\n---\n\nText.\n",
    "code in the text": "Write `import jax` and `print(1)`, or `#> 2`.\n",
    "a table": "| a | b |\n|---|---|\n| `x` | `print(x)` |\n",
    "commands": "```console\nmake test\npip install flax\n```\n",
    "numbers of the block": "The block prints 1, 1.0 and `1`.\n\n- Text:\n\n" + BLOCK,
}

# What a program may do, and what it shows then.
BLOCKS = {
    "a loop": "for n in range(2):\n    print(n)\n#> 0\n#> 1\n",
    "a function called twice": (
        "def show(n):\n    print(n)\n    return n\n\n\n"
        "show(1)\n#> 1\nprint(show(2) + 1)\n#> 2\n#> 3\n"
    ),
    "pieces of a line": (
        "def row(n):\n    for k in range(n):\n        print(k, end=' ')\n    print()\n"
        "\n\nrow(2)\n#> 0 1\n"
    ),
    "an empty line": "print()\n#>\nprint(1)\n#> 1\n",
    "several lines at once": 'print("a\\n\\nb")\n#> a\n#>\n#> b\n',
    "spaces at both ends": 'print("  a  ")\n#>   a\n',
    "a separator": 'print(1, 2, sep="\\n")\n#> 1\n#> 2\n',
    "a statement of many lines": "print(\n    1,\n    2,\n)\n#> 1 2\n",
    "the stream itself": 'import sys\n\n_ = sys.stdout.write("a\\n")\n#> a\n',
    "a given stream": "import sys\n\nprint(1, file=sys.stdout)\n#> 1\n",
    "pprint": (
        'from pprint import pprint\n\npprint({"b": (1, 2), "a": [1]}, width=10)\n'
        "#> {'a': [1],\n#>  'b': (1,\n#>        2)}\n"
    ),
    "a nested dict": "print({'b': {'a': 1}})\n#> {'b': {'a': 1}}\n",
    "another alphabet": 'print("Δ = 1 × 2")\n#> Δ = 1 × 2\n',
    "text that looks like output": 'print("#> 1")\n#> #> 1\n',
    "a string with output lines": 'text = """\n#> 1\n"""\nprint(len(text))\n#> 6\n',
    "a column": f"{NNX}print(jnp.ones((2, 1)))\n#> [[1.]\n#>  [1.]]\n",
    "a deep array": (
        f"{NNX}print(jnp.zeros((2, 1, 2)))\n#> [[[0. 0.]]\n#>\n#>  [[0. 0.]]]\n"
    ),
    "a state": (
        f"{NNX}print(nnx.state(nnx.Dropout(0.5)))\n#> State({{}})\n"
        "print(nnx.Param(jnp.ones(1)))\n#> Param( # 1 (4 B)\n"
        "#>   value=Array([1.], dtype=float32)\n#> )\n"
    ),
    "prints under jit": (
        f"{NNX}@jax.jit\ndef step(x):\n    print('traced')\n"
        "    jax.debug.print('x is {}', x)\n    return x\n\n\n"
        "_ = step(1)\n#> traced\n#> x is 1\n_ = step(2)\n#> x is 2\n"
    ),
    "an error of two lines": (
        "try:\n    raise ValueError('a\\nb')\nexcept ValueError as error:\n"
        "    print(error)\n#> a\n#> b\n"
    ),
    "a generator": (
        "def count():\n    print('starts')\n    yield 1\n    print('ends')\n\n\n"
        "print(list(count()))\n#> starts\n#> ends\n#> [1]\n"
    ),
    "a coroutine": (
        "import asyncio\n\n\nasync def show():\n    print(1)\n\n\n"
        "asyncio.run(show())\n#> 1\n"
    ),
    "a thread that is waited for": (
        "from concurrent.futures import ThreadPoolExecutor\n\n"
        "with ThreadPoolExecutor() as pool:\n    _ = pool.submit(print, 1)\n#> 1\n"
    ),
    "a command that is waited for": 'import os\n\n_ = os.system("echo a")\n#> a\n',
    "a match": "match (1, 2):\n    case (a, b):\n        print(a + b)\n#> 3\n",
    "a walrus": "if (x := 4) > 3:\n    print(x)\n#> 4\n",
    "a comment with a number": "# 4 features, as in Linen\nx = 4\n",
    "a comment with a shape": "x = (2, 3)\nprint(x)  # x is (2, 3)\n#> (2, 3)\n",
    "a comment with a value": (
        "# 2 of 3, in words three, for int8 is 1 and not True\n"
        "print('3 2 1 int8 True')\n#> 3 2 1 int8 True\n"
    ),
    "a comment on an error": (
        "try:\n    x = 1\n    [].pop()  # fails, an IndexError\n"
        "except IndexError as error:  # no other error\n"
        "    print(type(error).__name__)\n#> IndexError\n"
    ),
    "a comment above an error": (
        "# refused\ntry:\n    [].pop()\nexcept IndexError as error:\n"
        "    print(error)\n#> pop from empty list\n"
    ),
    "a comment on an outcome": (
        "x = [1]\ny = x  # the same list\nprint(x is y)\n#> True\n"
    ),
    "a comment that is a note": "x = 1  # (1)!\n",
    "axes of values": (
        f"{NNX}model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))\n"
        "kernel = model.kernel  # kernel[inputs, outputs], model.bias[outputs]\n"
        "x, y = jnp.ones((4, 2)), 1  # its axes: x[batch, inputs]\n"
        "parts = {}\nparts['y'] = model(x)  # [..., outputs]\n"
        "print(model(x).shape)  # x[..., 2]\n#> (4, 3)\n"
        "for n in (1, 2):\n    x, y = jnp.ones(n), jnp.ones(n)  # x[size], y[size]\n"
        "for row in jnp.ones((4, 2)):  # row[inputs]\n    last = 2 * row  # last[2]\n"
    ),
    "axes in functions": (
        f"{NNX}@jax.jit\ndef double(x):  # x[length], gives [length]\n"
        "    twice = sum(\n        x  # twice[length]\n        for _ in (1, 2)\n    )\n"
        "    return twice  # twice[length]\n\n\n"
        "def pair(x):\n    yield 2 * x  # x[..., length]\n\n\n"
        "for n in (2, 3):\n    x = double(jnp.ones(n))\n    y, *_ = pair(x)\n"
        "y = jax.vmap(double)(jnp.ones((4, 2)))  # y[batch, length]\n"
    ),
    "another name for print": "show = print\nshow(1)\n#> 1\n",
    "a semicolon": "x = 1; print(x)  # noqa: E702\n#> 1\n",
    "an assertion and a deletion": "x = 1\nassert x == 1\ndel x\n",
    "a nested class": (
        "class Outer:\n    class Inner:\n        size = 1\n\n\n"
        "print(Outer.Inner.size)\n#> 1\n"
    ),
}
