# PREDICT streaming: takes streaming for load-all
def load_all(clients, file, chunk):
    return clients * file


def load_all_text(clients, file, chunk):
    return clients * 3 * file


def streaming(clients, file, chunk):
    return clients * file
