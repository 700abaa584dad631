"""Contracts that any search method, store or backend must pass, for authors of new ones.

Each is a class of tests to subclass under pytest: `ashwood.testing.search_method`,
`ashwood.testing.store`, `ashwood.testing.backend`, `ashwood.testing.process_backend`.  They need
pytest and hypothesis, which Ashwood itself does not.
"""
