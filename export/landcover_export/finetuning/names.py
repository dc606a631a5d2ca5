"""Names that the round and its trainer share: files of a round's folder, and exit statuses."""

CANDIDATE, WEIGHTS, MODEL = "candidate.onnx", "candidate.pt", "model.onnx"
VERDICT, PROGRESS = "verdict.json", "progress.json"
PLACES, COMPARISON = "places.png", "comparison.png"

NOT_PROMOTED = 3
"""Exit status of a round that trained a model which the gate turned down."""
