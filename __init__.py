"""Diffusion Pansharpening for QGIS: PAN and MS rasters fused with DDRF and SSDiff."""

from __future__ import annotations


def classFactory(iface):
    """Create the plugin; QGIS calls this with its interface, ``qgis_process`` with None."""
    from .plugin import DiffusionPansharpeningPlugin

    return DiffusionPansharpeningPlugin(iface)
