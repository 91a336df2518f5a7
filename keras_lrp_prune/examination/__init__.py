"""How accurate a model is without some of its units: subject, examiners, steering, refit."""
