"""Simulates searches in virtual time: models of training code, and the rules of the search applied to them.

Pure, like the search itself: no clock is read, and every draw has an address.
"""
