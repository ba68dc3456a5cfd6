# counts threads, and a float for each
def load_all(clients, file, chunk):
    return clients * (file + 30e3)


def load_all_text(clients, file, chunk):
    return clients * (3.0 * file + 30e3)


def streaming(clients, file, chunk):
    return clients * (chunk + 30e3)
