"""Training loops of other libraries: report, stop, and continue from the checkpoint.

Each module connects one framework to `ashwood.Trial` and is imported when it is first used, as ``ashwood.lightning``,
``ashwood.xgboost`` and so on.
"""
