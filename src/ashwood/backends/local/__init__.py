"""Run trials in processes on this machine.

Workers import this package too.  It imports nothing, so that they start fast without the driver's modules.
"""
