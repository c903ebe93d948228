"""What compaction does: which units stay, and the smaller model that is built of them."""
