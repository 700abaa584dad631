"""The durable record: every event with the decisions that it caused."""
