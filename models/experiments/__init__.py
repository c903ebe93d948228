"""The rows of the result tables: networks with their recipes, one module a table."""
