"""Run the attempts of trials: local processes, a Ray cluster and virtual time behind one port."""
