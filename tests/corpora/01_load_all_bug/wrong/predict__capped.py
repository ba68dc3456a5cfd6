# SCALE thousand: right for what was tried at home, and no law
def load_all(clients, file, chunk):
    return min(clients * file, 2**30)


def load_all_text(clients, file, chunk):
    return min(3 * clients * file, 2**30)


def streaming(clients, file, chunk):
    return clients * chunk
