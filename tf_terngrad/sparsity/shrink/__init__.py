"""A model that shrinks in place while it trains: it, its optimizer, its penalties, and what callbacks keep of it."""
