"""Simulated futures of a search: previews, plans and the time left.

It contains models of training code, and applies the rules of the search to them in virtual time.

Pure, like the search itself: no clock is read, and every draw has an address.
"""
