"""What the dialects have in common: JSON that is read, and events that are written. No I/O."""
