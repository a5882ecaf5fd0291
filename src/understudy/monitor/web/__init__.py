"""Pages of the monitor: made on the server, with charts of our own."""
