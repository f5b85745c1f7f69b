"""The HTTP routes, one module a subject; each reads a body, calls the service, and writes the answer."""
