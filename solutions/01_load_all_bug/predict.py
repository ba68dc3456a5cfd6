"""Predict what three servers hold in memory. All sizes are in bytes.

Each function gets the number of clients that are being served at the same moment, the size of the
file that each of them downloads, and the chunk size (which only the streaming server has). It
returns the growth of the server's private memory above its idle baseline, in bytes.

The three servers lie in the folder `servers`: read them, and run them.
"""


def load_all(clients: int, file: int, chunk: int) -> float:
    """The growth of `servers/load_all.py`: it reads the file, then sends it."""
    # BEGIN SOLUTION
    # BEGIN STUB
    # # TODO: how much the server holds then, in bytes
    # return 0
    # END STUB
    return clients * file
    # END SOLUTION


def load_all_text(clients: int, file: int, chunk: int) -> float:
    """The growth of `servers/load_all_text.py`: it also makes text of it, and bytes again."""
    # BEGIN SOLUTION
    # BEGIN STUB
    # # TODO: how much the server holds then, in bytes
    # return 0
    # END STUB
    copies = 3  # the bytes, the text of one byte a character, and the bytes made of that
    return clients * copies * file
    # END SOLUTION


def streaming(clients: int, file: int, chunk: int) -> float:
    """The growth of `servers/streaming.py`: one buffer of `chunk` bytes, filled again and again."""
    # BEGIN SOLUTION
    # BEGIN STUB
    # # TODO: how much the server holds then, in bytes
    # return 0
    # END STUB
    return clients * min(chunk, file)
    # END SOLUTION
