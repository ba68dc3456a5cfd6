# PREDICT load-all-text: takes text for free
def load_all(clients, file, chunk):
    return clients * file


def load_all_text(clients, file, chunk):
    return clients * file


def streaming(clients, file, chunk):
    return clients * chunk
