"""Tile plan, executors, and the child process that runs torch for QGIS."""
