"""What runs jobs: local processes here; a cluster and virtual time behind the same port."""
