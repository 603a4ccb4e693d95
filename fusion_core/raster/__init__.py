"""Rasters: the only room that knows GDAL.

Importing this package imports nothing; its modules import GDAL, so callers import them when they need them.
"""
