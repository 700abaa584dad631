"""What people see on a terminal: progress, live displays, tables and messages."""
