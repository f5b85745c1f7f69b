"""The models that are served: found, loaded, warmed up."""
