"""The WebSocket of openpi's robot clients."""
