"""Commands with a module each: `add_to` says their options, and imports wait until they run, as in `cli.py`."""
