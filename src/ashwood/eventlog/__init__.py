"""Event logs: every event of an experiment with the decisions that it caused, stored durably."""
