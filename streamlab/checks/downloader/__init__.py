"""Lab 03's checks of a downloader; those of its leaky server are in `leaky_server`."""
