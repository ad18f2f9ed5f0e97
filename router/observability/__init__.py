"""Logs, metrics, run traces and OpenTelemetry spans. Packages declare their own metrics beside what they count."""
