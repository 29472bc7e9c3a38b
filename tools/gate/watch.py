"""Runs the page that you save, and says what is wrong with it: `make watch`.

That command writes first what pages include of the site, as a build does.
"""

import contextlib
import time
from pathlib import Path

import watchfiles

from tools.gate import run_page
from tools.gate.pages import PageError, all_pages, shown_path
from tools.project import DOCS, EXAMPLES

# A save is seen after this many milliseconds without another change.
STEP = 50
# How long to wait for one, in milliseconds, before Ctrl-C is looked at.
LOOK = 500


def pages_of(saved: list[Path]) -> list[Path]:
    """Return the pages among the saved files, and those that include one of them."""
    lessons = {file.parent / "index.md" for file in saved if file.suffix == ".py"}
    return [page for page in all_pages() if page in {*saved, *lessons}]


def verdict(page: Path) -> str:
    """Return what a run of a page finds: what is wrong, or how much is true."""
    start = time.monotonic()
    blocks, result, wrong = run_page.judge(page, run_page.remembered)
    seconds = time.monotonic() - start
    if wrong:
        return "\n".join(wrong) + f"\n{shown_path(page)}: not true, in {seconds:.1f} s"
    return (
        f"{shown_path(page)}: true, {len(blocks)} blocks and {result.outputs} output "
        f"lines, in {seconds:.1f} s"
    )


def main() -> None:
    """Watch until Ctrl-C. A page whose code is the same is compared, not run."""
    run_page.execute("")  # from now on, jax and flax are imported
    saves = watchfiles.watch(
        DOCS,
        EXAMPLES,
        step=STEP,
        rust_timeout=LOOK,
        yield_on_timeout=True,
    )
    next(saves)  # it watches from now on
    print(f"Watching {len(all_pages())} pages. Save one, and it is run.", flush=True)
    for files in saves:
        try:
            for page in pages_of([Path(name) for _, name in files]):
                print(verdict(page), flush=True)
        except PageError as error:
            print(error, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
