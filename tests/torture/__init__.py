"""Fault injection: real experiments are killed again and again, and must end as if nothing had happened.

``python -m tests.torture --help`` runs it for as long as you like; the tests beside it are a short version.
"""
