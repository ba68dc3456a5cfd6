# PREDICT number: calculates and forgets to return
def load_all(clients, file, chunk):
    return print(clients * file)


def load_all_text(clients, file, chunk):
    return print(3 * clients * file)


def streaming(clients, file, chunk):
    return print(clients * chunk)
