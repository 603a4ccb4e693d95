.DEFAULT_GOAL := help
.PHONY: help setup demo test lint install package clean \
    bench-accuracy bench-full-resolution bench-steps bench-margins bench-pictures bench-adaptation \
    bench-speed bench-pipeline bench-cluster

NAME := diffusion_pansharpening
VERSION = $(shell sed -n 's/^version=//p' metadata.txt)
PYTHON := .venv/bin/python
DEMO := build/demo

# For `make install`: the QGIS profile, and the major version of QGIS that it belongs to.
PROFILE ?= default
QGIS ?= 3
ifeq ($(shell uname -s),Darwin)
QGIS_DATA ?= $(HOME)/Library/Application Support/QGIS/QGIS$(QGIS)
else
QGIS_DATA ?= $(HOME)/.local/share/QGIS/QGIS$(QGIS)
endif
PLUGINS = $(QGIS_DATA)/profiles/$(PROFILE)/python/plugins

help:  ## Show what there is to make
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 24

setup:  ## Install what is missing: system packages (as root), .venv with PyTorch
	@.ci/setup

demo: setup  ## Fuse a synthetic scene in QGIS; table, fused GeoTIFF and picture in build/demo
	rm -rf $(DEMO) && mkdir -p $(DEMO)
	.ci/qgis_process run diffusionpansharpening:samplescene -- SIZE=512 BANDS=4 RATIO=4 SEED=0 \
	    PAN=$(DEMO)/pan.tif MS=$(DEMO)/ms.tif REFERENCE=$(DEMO)/reference.tif
	.ci/qgis_process run diffusionpansharpening:ssdiff -- PAN=$(DEMO)/pan.tif MS=$(DEMO)/ms.tif \
	    OUTPUT=$(DEMO)/fused.tif
	$(PYTHON) benchmarks/demo.py --pan $(DEMO)/pan.tif --ms $(DEMO)/ms.tif \
	    --reference $(DEMO)/reference.tif --fused $(DEMO)/fused.tif --folder $(DEMO)

test: setup  ## Run every test
	$(PYTHON) -m pytest tests

SCENES = $(if $(DATA),--data $(DATA))

bench-accuracy: setup  ## Measure models and classical methods on real scenes (DATA=folder of scenes)
	$(PYTHON) benchmarks/accuracy.py $(SCENES)

bench-full-resolution: setup  ## The same without a truth, at full resolution
	$(PYTHON) benchmarks/accuracy.py --full $(SCENES)

bench-steps: setup  ## Quality against network calls and solver; csv in build, picture in docs
	$(PYTHON) benchmarks/steps.py $(SCENES)
	$(PYTHON) benchmarks/draw_steps.py

bench-margins: setup  ## Quality, seams and cost against tile size and margin; csv in build, picture in docs
	$(PYTHON) benchmarks/margins.py $(SCENES)
	$(PYTHON) benchmarks/draw_margins.py

bench-pictures: setup  ## Results at full resolution side by side, in build/pictures
	$(PYTHON) benchmarks/pictures.py $(SCENES)

bench-adaptation: setup  ## Adapt models to scenes in five minutes on two cores; L-BAF; csv in build
	$(PYTHON) benchmarks/adaptation.py $(SCENES)

bench-speed: setup  ## Speed and memory on two cores against the published way; csv in build
	$(PYTHON) benchmarks/speed.py $(SCENES)

bench-pipeline: setup  ## All but the network against gdal_pansharpen; memory of a scene ten times as high
	$(PYTHON) benchmarks/pipeline.py --worker

bench-cluster: setup  ## A Dask cluster here against threads of one process; how many threads it feeds
	$(PYTHON) benchmarks/cluster.py
	$(PYTHON) benchmarks/cluster.py --asleep 0.2

lint: setup  ## Check format, style and security
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/bandit --quiet --configfile pyproject.toml --recursive .

install:  ## Link this folder into a QGIS profile (PROFILE=default QGIS=3)
	mkdir -p "$(PLUGINS)"
	@if [ -e "$(PLUGINS)/$(NAME)" ] && [ ! -L "$(PLUGINS)/$(NAME)" ]; then \
	    echo "$(PLUGINS)/$(NAME) is an installed copy: remove it in QGIS first." >&2; exit 1; fi
	ln -sfn "$(CURDIR)" "$(PLUGINS)/$(NAME)"
	@echo "Now enable Diffusion Pansharpening in QGIS: Plugins > Manage and Install Plugins."

package:  ## Make the zip for the plugin repository from the last commit
	@.ci/package dist/$(NAME)-$(VERSION).zip

clean:  ## Remove what was made, except .venv
	rm -rf build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
