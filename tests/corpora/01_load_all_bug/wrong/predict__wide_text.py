# PREDICT load-all-text: takes each character for four bytes
def load_all(clients, file, chunk):
    return clients * file


def load_all_text(clients, file, chunk):
    return clients * 6 * file


def streaming(clients, file, chunk):
    return clients * chunk
