"""Searches in virtual time: what training takes and comes to as a model, and the rules played through on it.

Pure, like the search itself: no clock is read, and every draw has an address.
"""
