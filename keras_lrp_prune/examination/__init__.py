"""What a model is worth without some of its units: who is examined, by whom, and what is left."""
