"""Behaviours learned in imagination: actors and critics."""
