"""What mapping a place takes, worked out before anything is read: blocks, bytes, hours, money."""
