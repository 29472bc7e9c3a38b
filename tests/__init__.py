"""The doc-tests, and the tests of everything around them."""
