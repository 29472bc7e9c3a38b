"""Every page, program and README: each block runs, and each output is true."""

import subprocess
import sys

import pytest

from tools.gate.memory import reads
from tools.gate.pages import all_pages, read_blocks, shown_path
from tools.gate.run_page import counts, differences, judge, output_lines, remembered
from tools.project import ROOT
from tools.sources import made_from

pytestmark = reads("mkdocs.yml", of=made_from)
PAGES = all_pages()
MAX_LINES, MAX_COLUMNS = 25, 88
PROJECT = ROOT / "pyproject.toml"
IN_TREE_MODE = (
    "This is so in tree mode, with nnx.set_graph_mode(False) and "
    "nnx.set_graph_updates(False). Write what holds in both modes, or name the mode "
    "where it differs, with graph= and graph_updates="
)


@pytest.mark.parametrize("path", PAGES, ids=shown_path)
def test_page(path, eval_example, note):
    blocks, result, wrong = judge(path, remembered)
    if eval_example.update_examples:
        for block, rendered in zip(blocks, result.rendered, strict=False):
            if rendered != block.source and block.snippet is None:
                block.example.source = block.source = rendered
                block.example.test_id = str(path)
                eval_example.to_update.append(block.example)
        wrong = differences(path, blocks, result)
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
    note(page=counts(path, blocks, result))


@pytest.mark.parametrize("path", PAGES, ids=shown_path)
def test_page_in_tree_mode(path):
    if wrong := judge(path, remembered, tree=True)[2]:
        pytest.fail("\n".join([*wrong, IN_TREE_MODE]), pytrace=False)


@pytest.mark.parametrize("path", PAGES, ids=shown_path)
def test_style_of_blocks(path, tmp_path):
    written, wrong = {}, []
    for at, block in enumerate(read_blocks(path)):
        outputs = output_lines(block)
        lines = block.source.splitlines()
        code = [line for n, line in enumerate(lines, 1) if n not in outputs]
        if len(code) > MAX_LINES and path.suffix != ".py" and not block.snippet:
            many = (
                f"{len(code)} lines of code, more than {MAX_LINES}: make it two blocks"
            )
            wrong.append(f"{block.place_of()}: {many}")
        wrong += [
            f"{block.place_of(n)}: {len(line)} columns, more than {MAX_COLUMNS}"
            for n, line in enumerate(lines, 1)
            if len(line) > MAX_COLUMNS
        ]
        file = tmp_path / f"block_{at}.py"
        file.write_text("\n".join(code) + "\n", "utf-8")
        written[file] = block, file.read_text("utf-8").rstrip("\n")
    ruff = [sys.executable, "-m", "ruff", "format", "--config", PROJECT, "--quiet"]
    subprocess.run([*ruff, tmp_path], check=True)
    for file, (block, code) in written.items():
        formatted = file.read_text("utf-8").rstrip("\n")
        if formatted != code:
            wrong.append(f"{block.place_of()}: `ruff format` writes:\n{formatted}")
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
