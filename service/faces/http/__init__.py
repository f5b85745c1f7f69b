"""HTTP: routes, bodies, connections, the OpenAPI document."""
