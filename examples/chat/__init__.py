"""A chat: `python -m uvicorn examples.chat.app:app`."""
