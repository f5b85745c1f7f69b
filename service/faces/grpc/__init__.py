"""gRPC: the server, its gate, its methods."""
