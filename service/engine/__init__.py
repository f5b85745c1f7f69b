"""The engine: batches what waits and runs it on one worker for a device."""
