"""The service on a cluster: replicas under Ray Serve, over one Redis."""
