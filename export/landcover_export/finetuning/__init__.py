"""Fine-tuning: annotations become sparse labels, a parent learns them beside what it knows, and a gate decides."""
