"""The server of `manifill serve`, an HTTP API and its page: uploads and results stay in memory, no file is written."""
