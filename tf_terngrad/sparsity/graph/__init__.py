"""A model as dimensions: its calls followed, channel by channel, and replayed."""
