"""Masking channels in place, and rebuilding a model without them."""
