"""Contracts that every search method, store and backend must pass, for authors of new ones.

Each contract is a class of tests to subclass: see `ashwood.testing.search_method`,
`ashwood.testing.store`, `ashwood.testing.backend` and `ashwood.testing.process_backend`.  They
need pytest and hypothesis, which Ashwood itself does not need.
"""
