"""Which units go next: limits, ranking, election, trials, and how much each class counts."""
