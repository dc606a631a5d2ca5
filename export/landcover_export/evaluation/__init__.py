"""How good a class map is: mapping as in serving, confusion matrices, intervals, reports. See docs/evaluation.md."""
