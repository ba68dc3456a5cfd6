# SCALE near: an interpreter, which the idle baseline has already, is added
def load_all(clients, file, chunk):
    return clients * file


def load_all_text(clients, file, chunk):
    return clients * 3 * file


def streaming(clients, file, chunk):
    return clients * chunk + 3 * 2**20
