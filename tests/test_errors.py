"""The list of messages: each that a page prints is there, and leads to its place."""

import ast
import re

import pytest
from bs4 import BeautifulSoup

from tools.gate.pages import read_blocks
from tools.project import ROOT
from tools.sources import site_config
from tools.website import api, errors

PAGE = """\
Text that says `except` before any heading.

## In Linen

=== "Linen"

    ```python
    try:
        linen()
    except Exception as error:
        print(type(error).__name__)
    #> OwnError
    ```

```console
make test  # ## Not a heading
```

### Passing `wrt=` twice

```python
print("before")
#> before
for call in (one, two, three):
    try:
        print("fine:", call() is None)
    except ValueError as error:
        print(str(error).splitlines()[0])
#> Use `x[...]` instead
#> fine: True
#> Use `x[...]` instead
try:
    four()
except (TypeError, KeyError) as error:
    print(f"{type(error).__name__}: {error}")
#> KeyError: 'four'
print("after")
#> after
```
"""


def block(handler, *output):
    """Return a page with a block that catches an error."""
    lines = ["```python", "try:", "    call()", f"except {handler}:", "    tell()"]
    return "\n".join([*lines, *output, "```", ""])


def test_messages_are_found_with_the_heading_above_them():
    assert list(errors.shown(PAGE)) == [
        ("OwnError", "", "In Linen"),
        ("ValueError", "Use `x[...]` instead", "Passing `wrt=` twice"),
        ("ValueError", "Use `x[...]` instead", "Passing `wrt=` twice"),
        ("KeyError", "'four'", "Passing `wrt=` twice"),
    ]


def test_the_list_groups_by_error_and_names_each_section_once():
    other = "## Other\n\n" + block("ValueError as e", "#> ValueError", "#> Use `x[.")
    pages = [("a.md", "First", PAGE), ("b/index.md", "Second", other)]
    assert errors.index(pages) == (
        "## KeyError\n\n"
        "``` { .text .output .message .no-copy }\n'four'\n```\n\n"
        "- [First: Passing `wrt=` twice](../a.md#passing-wrt-twice)\n\n"
        "## OwnError\n\n"
        "Shown by its name alone:\n\n"
        "- [First: In Linen](../a.md#in-linen)\n\n"
        "## ValueError\n\n"
        "``` { .text .output .message .no-copy }\nUse `x[.\n```\n\n"
        "- [Second: Other](../b/index.md#other)\n\n"
        "``` { .text .output .message .no-copy }\nUse `x[...]` instead\n```\n\n"
        "- [First: Passing `wrt=` twice](../a.md#passing-wrt-twice)\n\n"
        "Shown by its name alone:\n\n"
        "- [Second: Other](../b/index.md#other)\n"
    )


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (block("ValueError"), "caught and not printed: ValueError"),
        (block("ValueError", "#> True"), "caught and not printed: ValueError"),
        (block("(TypeError, KeyError)", "#> four"), "which error is it"),
        (block("Exception", "#> four"), "which error is it"),
    ],
)
def test_an_error_that_cannot_be_listed_is_named(page, message, caplog):
    errors.index([("lesson.md", "Lesson", page)])
    [warning] = caplog.records
    assert (warning.levelname, warning.name.split(".")[0]) == ("WARNING", "mkdocs")
    assert re.search(rf"lesson\.md: .*{message}", warning.message)


def test_every_page_that_catches_an_error_is_listed():
    listed = errors.texts(site_config()["nav"])["errors/messages.md"]
    catching = set()
    for _, address in api.listed(site_config()["nav"]):
        program = (ROOT / address).with_suffix(".py")
        path = program if program.exists() else ROOT / "docs" / address
        for block in read_blocks(path):
            nodes = ast.walk(ast.parse(block.source))
            handlers = [n for n in nodes if isinstance(n, ast.ExceptHandler)]
            if handlers and not block.snippet:  # an exercise prints nothing
                catching.add(address)
    assert catching == set(re.findall(r"\(\.\./(.+?)#", listed))
    assert len(catching) > 15


def test_the_built_page_shows_a_message_and_leads_to_it(site):
    def soup(path):
        html = (site.folder / path / "index.html").read_text("utf-8")
        return BeautifulSoup(html, "html.parser")

    page = soup("reference/errors")
    known = "Cannot mutate OptState from a different trace level"
    [message] = [one for one in page.select(".output") if one.text.strip() == known]
    assert message.find_previous("h2")["id"] == "tracecontexterror"
    target = message.find_next("a", class_=None)["href"]
    path, _, heading = target.removeprefix("../../").partition("/#")
    section = soup(path).find(id=heading)
    assert known in section.find_next(class_="language-python").text


def test_a_page_without_its_outputs_has_no_messages_yet():
    block = "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    print(error)\n"
    page = "```python\n{}{}```\n".format
    assert errors.messages(page(block, "")) == set()
    assert errors.messages(page(block, "#> by zero\n")) == {"by zero"}
