# PREDICT number: answers with a text
def load_all(clients, file, chunk):
    return str(clients * file)


def load_all_text(clients, file, chunk):
    return str(3 * clients * file)


def streaming(clients, file, chunk):
    return str(clients * chunk)
