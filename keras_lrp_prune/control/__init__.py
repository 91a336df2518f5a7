"""How much goes, and how far: schedules, goals, and the propose-try-keep-or-undo loop."""
