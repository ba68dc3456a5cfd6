# a mebibyte for what nobody counts
def load_all(clients, file, chunk):
    return clients * file + 2**20


def load_all_text(clients, file, chunk):
    return clients * 3 * file + 2**20


def streaming(clients, file, chunk):
    return clients * chunk + 2**20
