"""How much each channel group matters to each class."""
