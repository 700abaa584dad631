"""Other systems, each driven by a script of its own in an environment of its own.

A script prints one line of JSON.
"""
