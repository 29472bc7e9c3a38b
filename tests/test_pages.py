"""Every page, program and README: each block runs, and each output is true."""

import pytest
from mkdocs.config import load_config

from tests.pages import ROOT, all_pages, shown_path
from tests.run_page import differences, record, run_page
from tools import hooks


@pytest.fixture(scope="session", autouse=True)
def generated():
    """Write the generated snippets, so that the pages that include them can be read."""
    hooks.generate(load_config(str(ROOT / "mkdocs.yml"))["nav"])


@pytest.mark.parametrize("path", all_pages(), ids=shown_path)
def test_page(path, eval_example):
    blocks, result = run_page(path)
    if eval_example.update_examples:
        for block, rendered in zip(blocks, result.rendered, strict=False):
            if rendered != block.source and block.snippet is None:
                block.example.source = block.source = rendered
                block.example.test_id = str(path)
                eval_example.to_update.append(block.example)
    if wrong := differences(blocks, result):
        pytest.fail("\n".join(wrong), pytrace=False)
    if not eval_example.update_examples:
        record(path, blocks, result)
