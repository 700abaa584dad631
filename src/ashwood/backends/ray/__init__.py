"""Runs trials on a Ray cluster.

Ray places and starts workers, and reports nodes.  Workers and the driver exchange messages over their
own sockets, because a message costs far less there than a Ray task.  Each worker is an actor that runs
a local backend with one slot, so training code has the same environment on a cluster as on one machine.

Ray is imported when it is first used: ``pip install 'ashwood[ray]'``.
"""
