"""The whole path at 64 pixels within some minutes: what `make demo` does, how long each part may take, its page."""
