"""Synthetic landscapes with spectra, sunlight and sensors: what the sample scene is made of."""
