"""The page: what agents see, remember, plan and dream, in a browser."""
