"""Pages share a process: what one leaves behind is seen, and no other page sees it."""

import os
import tempfile

import pytest

from tools.gate import run_page, world
from tools.gate.memory import reads
from tools.gate.process import in_process
from tools.gate.script import run_shared
from tools.project import ROOT

pytestmark = reads()

# What a page may leave behind, and a word of the place in which it is seen.
LEFT = {
    "a name of a module": ("import numpy as np\n\nnp.left = 1\n", "numpy.left"),
    "another function": (
        "import jax.numpy as jnp\n\njnp.sum = len\n",
        "jax.numpy.sum",
    ),
    "no function": ("import jax.numpy as jnp\n\ndel jnp.sum\n", "jax.numpy.sum"),
    "a method of a class": (
        "from flax import nnx\n\nnnx.Linear.__call__ = len\n",
        "Linear.__call__",
    ),
    "an entry of a registry": (
        "from flax import nnx\n\nnnx.variablelib.VariableTypeCache['left'] = 1\n",
        "VariableTypeCache",
    ),
    "a filter of warnings": (
        "import warnings\n\nwarnings.simplefilter('ignore')\n",
        "warnings.filters",
    ),
    "how numbers are printed": (
        "import numpy as np\n\nnp.set_printoptions(precision=1)\n",
        "numpy.printoptions",
    ),
    "a random state of numpy": (
        "import numpy as np\n\n_ = np.random.rand()\n",
        "numpy.random",
    ),
    "a random state": ("import random\n\n_ = random.random()\n", "random"),
    "a setting of jax": (
        "import jax\n\njax.config.update('jax_enable_x64', True)\n",
        "jax.config",
    ),
    "a setting of jax in this thread": (
        "import jax\n\n_ = jax.enable_x64(True).__enter__()\n",
        "jax.config",
    ),
    "a setting of flax": (
        "from flax import config\n\n"
        "config.update('flax_profile', not config.flax_profile)\n",
        "flax.config",
    ),
    "a variable of the environment": (
        "import os\n\nos.environ['LEFT'] = '1'\n",
        "environ",
    ),
    "another folder": ("import os\n\nos.chdir('/')\n", "folder"),
    "a place of modules": (
        "import sys\n\nsys.path.append('x')\n",
        "sys.path",
    ),
    "a deeper recursion": ("import sys\n\nsys.setrecursionlimit(9999)\n", "recursion"),
    "a signal": (
        "import signal\n\n_ = signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n",
        "signals",
    ),
    "a handler of logs": ("import logging\n\nlogging.basicConfig()\n", "logging"),
    "a level of logs": (
        "import logging\n\nlogging.getLogger('jax').setLevel(1)\n",
        "logging",
    ),
    "an open file": (
        "file = open('/dev/null')\nimport sys; sys.left = file\n",
        "sys.left",
    ),
    "an open descriptor": ("import os\n\n_ = os.open('/dev/null', 0)\n", "open files"),
    "a thread": (
        "import threading\n\nthreading.Thread(target=input, daemon=True).start()\n",
        "threads",
    ),
    "something at the end": (
        "import atexit\n\n_ = atexit.register(len)\n",
        "exit functions",
    ),
    "a mask of files": ("import os\n\n_ = os.umask(0o777)\n", "umask"),
    "no collection": ("import gc\n\ngc.disable()\n", "gc"),
}
CLEAN = {
    "arrays and modules": (
        "import jax\nimport jax.numpy as jnp\nfrom flax import nnx\n\n"
        "class Layer(nnx.Module):\n    def __init__(self, rngs):\n"
        "        self.inner = nnx.Linear(2, 2, rngs=rngs)\n\n"
        "model = nnx.jit(lambda: Layer(nnx.Rngs(0)))()\n"
    ),
    "a warning": "import warnings\n\nwith warnings.catch_warnings():\n    pass\n",
}


def changes_of(scripts: list[str]) -> list[list[str]]:
    """Return what each script changes, each in a fork of this process."""
    found = []
    for source in scripts:
        with tempfile.TemporaryFile("w+") as file:
            if not (child := os.fork()):
                before = world.World()
                exec(compile(source, "page.py", "exec"), {"__name__": "__main__"})
                file.write("\n".join(before.changes()))
                file.flush()
                os._exit(0)
            os.waitpid(child, 0)
            file.seek(0)
            found.append(file.read().splitlines())
    return found


@pytest.fixture(scope="module")
def changes():
    """Return what each of the scripts above changes."""
    scripts = [text for text, _ in LEFT.values()]
    return dict(zip(LEFT, in_process(changes_of, scripts), strict=True))


@pytest.mark.parametrize("name", LEFT)
def test_what_a_page_leaves_behind_is_seen(changes, name):
    source, word = LEFT[name]
    seen = any(word in place for place in changes[name])
    assert seen or world.runs_alone(source), changes[name]


@pytest.mark.parametrize("script", CLEAN.values(), ids=CLEAN)
def test_what_every_page_does_leaves_nothing_behind(script, monkeypatch):
    monkeypatch.setattr(run_page, "execute_alone", None)  # it would raise
    for _ in range(2):
        assert run_page.execute(script)[2] is None


def test_no_page_sees_what_another_has_left():
    left, word = LEFT["a name of a module"]
    look = "import numpy as np\n\nprint(hasattr(np, 'left'))\n"
    for script, printed in ((left, ""), (look, "False\n")):
        assert run_page.execute(script)[0][3] == printed, word


def test_a_page_does_not_see_a_module_that_another_has_loaded():
    load = "import jax.experimental.ode\n"
    look = "import jax\n\nprint(hasattr(jax.experimental, 'ode'))\n"
    named = "import jax\n\nprint(jax.experimental.ode)\n"
    assert run_page.execute(load)[2] is None
    assert run_page.execute(named)[2] is not None
    assert run_page.execute(look)[2] is None


def test_what_fails_with_others_runs_again_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n#> 1\n```\n")
    failed = {}, [], "it met what another page had left behind"
    assert not run_page.judge(page, lambda script: failed)[2]


def test_a_page_that_ends_its_process_is_no_harm_to_the_next():
    assert run_page.execute("raise KeyboardInterrupt\n")[2]
    assert run_page.execute("import os\n\nos._exit(0)\n")[2]
    assert run_page.execute("print(1)\n") == ({1: "1\n"}, [], None)


def test_a_script_that_looks_at_its_process_is_left_to_run_alone(tmp_path):
    (tmp_path / "page.py").write_text("import os\n\nprint(os.environ)\n")
    (tmp_path / "begun").touch()
    arguments = str(tmp_path), str(ROOT), str(tmp_path / "begun")
    assert in_process(run_shared, *arguments) is None
