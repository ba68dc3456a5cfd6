# PREDICT load-all: forgets that each client has a copy
def load_all(clients, file, chunk):
    return file


def load_all_text(clients, file, chunk):
    return 3 * file


def streaming(clients, file, chunk):
    return chunk
