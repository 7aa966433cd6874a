"""Programs are read by a type checker and run by a test; they hold no tests of their own."""

from __future__ import annotations

collect_ignore = ["programs", "refused"]
