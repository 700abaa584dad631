"""Search quality on the learning curves of real networks (LCBench), in virtual time.

``python -m benchmarks quality --lcbench DIR`` compares every method, ``python -m
benchmarks.quality --lcbench DIR`` ours alone, fast.  `lcbench`, `workers` and `measure` need
numpy alone (and onnxruntime where curves are computed), so that the peers' processes can import them.
"""
