"""Models that answer: online, and in batches over files."""

from __future__ import annotations

import os

# Else ONNX Runtime starts a thread at its import, and tells its maker about this machine.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
