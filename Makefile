# Every command of the project. The first one you run makes .venv by itself.
PY := .venv/bin/python
# We know: the theme has a successor. CONTRIBUTING says what a move would take.
export NO_MKDOCS_2_WARNING := 1
# The notebook step would load each format of nbconvert, to name it in a help text.
export NBCONVERT_DISABLE_CONFIG_EXPORTERS := 1

# Two at once; the tests of one page by one of them. Where CI is set, all of them.
SUITE := $(PY) -m pytest -q -n 2 --dist loadscope --remember
# A part of the suite: make test SHARD=2/4
PART := $(if $(SHARD),$(shell echo $(SHARD) | sed 's|\(.*\)/\(.*\)|--group \1 --splits \2|'))

help:           ## Show this list
	@grep -hE '^[a-z]+: .*##' Makefile | sed 's/:.*##/ \t/' | expand -t 12

serve: .venv/ready   ## Build the site and serve it on http://127.0.0.1:8000 with live reload
	@SITE_URL=http://127.0.0.1:8000/ $(PY) -m mkdocs serve --livereload --dev-addr 127.0.0.1:8000

site: .venv/ready    ## Verify the pages, then build the site into site/
	@$(SUITE) tests/test_pages.py tests/test_proof.py && $(PY) -m mkdocs build --strict

test: .venv/ready    ## Run everything that guards the site
	@$(PY) -m tools.gate.browser
	@$(SUITE) $(PART)

update: .venv/ready  ## Rewrite every printed output (the #> lines) from a fresh run
	@$(PY) -m pytest -q tests/test_pages.py -k 'not tree_mode' --update-examples

watch: .venv/ready   ## Run the page that you save, each time you save it
	@$(PY) -m tools.website.hooks && $(PY) -m tools.gate.watch

lint: .venv/ready    ## Check style: ruff, typos, Markdown
	@$(PY) -m pre_commit run --all-files

lesson: .venv/ready  ## Start a lesson from the template: make lesson NAME=jit-state
	@$(PY) -m tools.website.lesson "$(NAME)"

cost: .venv/ready    ## Measure anew what a call costs, for the figures of the site
	@$(PY) -m examples.cost.measure

matrix: .venv/ready  ## Run every page on other releases, Pythons and CPUs; FLOOR=1: on older ones
	@$(PY) -m tools.measure.matrix $(if $(FLOOR),--floor)

bench: .venv/ready   ## Time the doc-tests against bare execution and against their peers
	@$(PY) -m tools.measure.bench

speed: .venv/ready   ## Time the build and live reload against plain Material for MkDocs
	@$(PY) -m tools.measure.speed

zensical: .venv/ready ## Build the site with the successor of the theme, and list what is lost
	@$(PY) -m tools.measure.successor

lock: .venv/ready    ## Resolve requirements.lock afresh, or a part of it: make lock ONLY="jax flax"
	@$(PY) -m uv pip compile -q $(if $(ONLY),$(ONLY:%=--upgrade-package %),--upgrade) --universal --generate-hashes --group dev pyproject.toml -o requirements.lock

.venv/ready: requirements.lock
	@sh tools/bootstrap.sh
	@touch $@

.PHONY: help serve site test update watch lint lesson cost bench matrix speed zensical lock
