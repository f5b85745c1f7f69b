"""The THICK service: sessions, batching engine, HTTP and gRPC faces, model repository.

Importing this package is light: it pulls in neither torch nor the web framework, so that thin clients can
use ``service.protocol`` alone.
"""
