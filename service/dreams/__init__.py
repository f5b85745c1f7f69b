"""Dreams: a served model stepped as an environment."""
