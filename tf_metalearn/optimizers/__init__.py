"""The learned optimizer, its training and its comparison with hand-made ones."""
