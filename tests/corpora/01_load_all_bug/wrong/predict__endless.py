# PREDICT number: never returns
import time


def endless():
    time.sleep(60)


def load_all(clients, file, chunk):
    return endless()


def load_all_text(clients, file, chunk):
    return clients * 3 * file


def streaming(clients, file, chunk):
    return clients * chunk
