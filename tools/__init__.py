"""Everything that makes, verifies and measures the site; no page imports from here.

Here lies what more than one of the folders stands on: where the files are, what the
site is written in, what the tests have found. `website` and `gate` do not
know each other: the gate writes records, the site reads them. These modules may import
`nnx_by_example`, and nothing else of ours.
"""
