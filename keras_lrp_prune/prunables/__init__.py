"""What can be pruned, one unit at a time, and the masks that hold it at zero."""
