"""Holds a running server of `notifier.v1` against the protocol, rule by rule."""
