"""The server of `manifill serve`: an HTTP API and the page that uses it."""
