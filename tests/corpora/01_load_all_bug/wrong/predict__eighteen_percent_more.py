# SCALE near: a safety margin of 18 %
def load_all(clients, file, chunk):
    return 1.18 * clients * file


def load_all_text(clients, file, chunk):
    return 1.18 * clients * 3 * file


def streaming(clients, file, chunk):
    return 1.18 * clients * chunk
