"""Telling people: what a page says, where it is kept until somebody has it, and how each receiver takes it."""
