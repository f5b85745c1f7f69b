"""Where sessions survive: memory, SQLite, Redis."""
