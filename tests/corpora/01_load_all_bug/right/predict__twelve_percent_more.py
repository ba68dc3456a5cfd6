# a safety margin of 12 %, which is near enough
def load_all(clients, file, chunk):
    return 1.12 * clients * file


def load_all_text(clients, file, chunk):
    return 1.12 * clients * 3 * file


def streaming(clients, file, chunk):
    return 1.12 * clients * chunk
