"""A catalogue of works of art: `python -m uvicorn examples.catalogue.app:app`."""
