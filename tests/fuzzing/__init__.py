"""Shared parts of the fuzz tests: real files, mutations of them, a watch over their readers."""
