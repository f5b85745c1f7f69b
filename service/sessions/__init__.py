"""A session is one agent's belief in one environment: its table, its acts, its life and its journal."""
