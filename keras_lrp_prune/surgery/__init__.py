"""Rebuilding a model without the channels that go."""
