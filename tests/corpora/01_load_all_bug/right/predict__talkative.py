# prints on the way
def load_all(clients, file, chunk):
    return print("load_all") or clients * file


def load_all_text(clients, file, chunk):
    return print("text") or clients * file * 3


def streaming(clients, file, chunk):
    return print("{}") or clients * min(chunk, file)
