"""The tests, `test_*.py`, and the fixtures that they share, `conftest.py`.

Nothing else: what two of them need lies in `tools/gate`. They may import everything of
ours but each other.
"""
