"""The doc-tests, and all machinery of the suite, which `tests` itself has none of.

Here lies what a page shows, how it runs, what is compared and what is damaged; in which
order tests run, what is remembered of them, what several of them share. It imports
`nnx_by_example` and the modules of `tools`, and nothing of the site.
"""
