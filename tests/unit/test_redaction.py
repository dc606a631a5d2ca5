"""What must not be in a log or a trace, and what must stay readable."""

from __future__ import annotations

import pytest

from landcover.redaction import redact

SIGNED = (
    "https://bucket.s3.eu-central-1.amazonaws.com/scenes/ortho.tif?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIAEXAMPLE%2F20260101%2Feu-central-1%2Fs3%2Faws4_request&X-Amz-Signature=5eC4e7"
)


@pytest.mark.parametrize(
    ("text", "secrets", "kept"),
    [
        ("cannot reach redis://:hunter2@broker:6379/0", ["hunter2"], "redis://***@broker:6379/0"),
        ("rediss://app:p@ss/w?rd@broker/0 is away", ["p@ss", "w?rd", "app"], "rediss://***@broker/0 is away"),
        ("postgresql+psycopg://me:hunter2@db/maps?sslmode=require", ["hunter2", "me:"], "***@db/maps"),
        ("https://me:hunter2@tiles.example/{z}/{x}/{y}.jpg", ["hunter2"], "tiles.example/{z}/{x}/{y}.jpg"),
        (f"HTTP error code 403: {SIGNED}", ["AKIAEXAMPLE", "5eC4e7"], "amazonaws.com/scenes/ortho.tif"),
        (f"'/vsicurl/{SIGNED}' not recognized", ["AKIAEXAMPLE", "5eC4e7"], "' not recognized"),
        ("url=https%3A%2F%2Fb%2Fa.tif%3FX-Amz-Signature%3D5eC4e7%26x", ["5eC4e7"], "X-Amz-Signature"),
        ("f=https%3A%2F%2Fb%2Fa.tif%3Ftoken%3D5eC4e7", ["5eC4e7"], "a.tif%3Ftoken"),
        ("who uses lck_TXfC42nCezfFXtGxWUBOJEkBR_h7ZDq-pB_5XuOs0R8 here", ["lck_", "pB_5XuOs0R8"], "who uses *** here"),
        ("https://x.blob.core.windows.net/c/a.tif?sv=2024&sig=5eC4e7%3D", ["5eC4e7"], "windows.net/c/a.tif"),
        ("https://imagery.example/wmts?key=5eC4e7&layer=a", ["5eC4e7"], "imagery.example/wmts"),
        ("https://tiles.example/#token=5eC4e7", ["5eC4e7"], "tiles.example/"),
        ("connect(host='db', password='hunter2')", ["hunter2"], "host='db'"),
        ('{"aws_secret_access_key": "5eC4e7"}', ["5eC4e7"], "secret_access_key"),
        ("Authorization: Bearer abc.def-123", ["abc.def-123"], "Authorization: Bearer"),
        ("GET /scenes?api_key=hunter2&bbox=1,2,3,4", ["hunter2"], "bbox=1,2,3,4"),
    ],
)
def test_secrets_go_and_the_rest_stays(text: str, secrets: list[str], kept: str) -> None:
    clean = redact(text)
    assert [secret for secret in secrets if secret in clean] == []
    assert kept in clean
    assert redact(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "block g1:demo:1f3a:9c2b:1:3:4 failed (attempt 2)",
        "read s3://bucket/scenes/ortho.tif in 12 ms",
        "https://tiles.example/WebMercatorQuad/17/3/4@2x.png is 404",
        "3 of 4 blocks: 75 % [request 5f2a]",
    ],
)
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert redact(text) == text
