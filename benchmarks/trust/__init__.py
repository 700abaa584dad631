"""Can early stopping be believed?  Searches on noisy and on smooth curves, and the verdicts about them.

``python -m benchmarks.trust --arlbench DIR --lcbench DIR`` compares ``mode: auto`` with random search and with Ray
Tune's ASHA on reinforcement learning tasks (ARLBench), and checks the verdict of `ashwood.search.trust` on problems
whose truth is known.
"""
