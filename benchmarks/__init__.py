"""Speed, side by side: the search core alone, whole experiments, use of the workers, memory.

``python -m benchmarks --help`` says how to run them; README.md keeps the numbers.  Modules
that the peers' processes import too (`steps`, `workload`, `peers`) use the standard library only.
"""
