"""What operators watch and set: metrics, logs, traces, keys."""
