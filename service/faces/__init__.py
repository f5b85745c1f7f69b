"""Faces: each transport that the service can be reached by."""
