"""What MkDocs calls, and a module for each thing that it generates; and `make lesson`.

Enters what a build needs. It imports `nnx_by_example` and the modules of `tools`, and
nothing of the gate: of what is verified it shows what the records say.
"""
