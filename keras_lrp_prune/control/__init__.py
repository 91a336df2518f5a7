"""What goes next, and how much: schedules, order, the propose-try-keep-or-undo loop."""
