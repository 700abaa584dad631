"""The dashboard with a large experiment."""
