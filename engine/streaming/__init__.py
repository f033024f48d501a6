"""The streaming surface: one record at a time, and streams of millions."""
