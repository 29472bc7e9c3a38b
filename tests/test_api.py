"""The index of names: what pages use is found, and what none uses is listed."""

import json
import re

import pytest
from flax import linen, nnx
from mkdocs.exceptions import PluginError

from tools.gate.pages import read_blocks
from tools.project import CACHE, ROOT
from tools.sources import site_config
from tools.website import api

FLAX = {"nnx": nnx, "nn": linen}

PAGE = """\
---
title: Invented
tags: [nnx.Param]
---

Text about `nnx.Embed`.

=== "Both"

    ```python
    import flax
    import flax.linen as nn
    from flax import nnx as nets
    from flax.nnx import state as state_of

    # nets.Conv is a comment
    print("nets.Dropout is a string", nets.Param(0.0).get_value())
    state_of(nn.Dense(2))
    flax.linen.Module
    ```

--8<-- "course/invented/exercise.py:stub"

--8<-- "not-there.md"

```python
--8<-- "course/invented/exercise.py:stub"
```

```console
nets.Rngs
```
"""
EXERCISE = """\
from flax import nnx

nnx.LoRA
# --8<-- [start:stub]
def invented(x: nets.Variable):
    return x.nets.Cache
# --8<-- [end:stub]
"""


@pytest.fixture(scope="module")
def kept(generated):
    """Return where the names of Flax are kept, for the pages of the site."""
    return CACHE / "generated" / "api" / "names.json"


@pytest.fixture(scope="module")
def texts(kept):
    """Return the index of this site."""
    return api.texts(site_config()["nav"], kept)


def test_names_are_found_where_code_uses_them(tmp_path):
    lesson = tmp_path / "docs" / "course" / "invented"
    lesson.mkdir(parents=True)
    (tmp_path / "examples").mkdir()
    (lesson / "index.md").write_text(PAGE)
    (lesson / "exercise.py").write_text(EXERCISE)
    meta, used = api.read_page("course/invented/index.md", tmp_path)
    assert used == {"nnx.Param", "nnx.state", "nnx.Variable", "nn.Dense", "nn.Module"}
    pages = [("[Other](o.md)", {}, used), ("[Invented](i.md)", meta, used)]
    assert api.index("nnx", ["nnx.Param", "nnx.Rngs", "nnx.state"], pages) == (
        "2 of 3 public names of `flax.nnx` are used on these pages.\n\n"
        f"{api.HEAD}\n"
        "| `nnx.Param` | **[Invented](i.md)**, [Other](o.md) |\n"
        "| `nnx.state` | [Other](o.md), [Invented](i.md) |\n\n"
        '??? note "Not used yet: 1 names"\n\n    `nnx.Rngs`\n'
    )


def test_a_block_that_is_no_python_is_named(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "examples").mkdir()
    (tmp_path / "docs" / "half.md").write_text("```python\nx = nnx.Param(\n```\n")
    with pytest.raises(PluginError, match=r"half\.md: .*\n?.*Param"):
        api.read_page("half.md", tmp_path)


def test_the_names_are_those_of_the_blocks_that_run():
    for _, address in api.listed(site_config()["nav"]):
        program = (ROOT / address).with_suffix(".py")
        path = program if program.exists() else ROOT / "docs" / address
        run = api.names_in([block.source for block in read_blocks(path)])
        meta, used = api.read_page(address)
        assert used == run, address
        tags = re.findall(r"\b(nnx?\.\w+)", " ".join(meta.get("tags", [])))
        assert not {*tags} - run, f"{address} has tags that its code never uses"
        for name in run:
            short, _, own = name.partition(".")
            assert hasattr(FLAX[short], own), f"{address} uses {name}"


@pytest.mark.parametrize("library", api.LIBRARIES)
def test_each_public_name_is_listed_once(texts, library):
    listed = re.findall(r"`(nnx?\.\w+)`", texts[f"api/{library}.md"])
    assert sorted(listed) == sorted(api.public_names(library))
    assert len(listed) == len(set(listed)) > 100
    assert f" of {len(listed)} public names" in texts[f"api/{library}.md"]


def test_the_index_knows_lessons_programs_and_what_is_missing(texts):
    nnx, folded = texts["api/nnx.md"].split("???")
    assert "**[Split and merge](../course/split-merge/index.md)**" in nnx
    assert "(../examples/diabetes_regression.ipynb)" in nnx
    assert "[Home](../index.md)" in nnx
    assert "`nnx.with_metadata`" in folded
    assert "nnx.initializers" not in nnx + folded  # a submodule
    assert "nnx.Data`" not in nnx + folded  # an alias for annotations


def test_kept_names_are_read_again_for_another_release(kept, texts, tmp_path):
    found = json.loads(kept.read_text())
    other = tmp_path / "names.json"
    other.write_text(json.dumps({**found, "names": {"nnx": ["nnx.Kept"]}}))
    assert api.kept_names(other) == {"nnx": ["nnx.Kept"]}
    other.write_text(json.dumps({"state": ["0.1"], "names": {}}))
    assert api.kept_names(other) == found["names"]
    assert json.loads(other.read_text()) == found
