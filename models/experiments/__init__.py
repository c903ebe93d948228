"""The rows of the result tables, one module a table: how each network was trained for it. train.py has others."""
