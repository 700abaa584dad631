"""Launchers: ``python -m determined.launch.torch_distributed`` and ``wrap_rank``."""
